import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from realsr.api import load_config
from realsr.config.pipeline import TrainConfig
from realsr.data.pairs import list_pairs
from realsr.imaging import read_uint8, shrink_uint8, write_uint8
from realsr.networks import build_generator
from realsr.weights import save_generator

FOLDER = str(Path(__file__).parents[2] / "experiments/adaptation")
NAMES = ("cameras", "study", "table")


def load_study() -> list[Any]:
    """Import the scripts without leaving their names, which other studies share."""
    pytest.importorskip("skimage", reason="scikit-image is not installed")
    before = {name: sys.modules.pop(name) for name in NAMES if name in sys.modules}
    sys.path.insert(0, FOLDER)
    try:
        return [importlib.import_module(name) for name in NAMES]
    finally:
        sys.path.remove(FOLDER)
        for name in NAMES:
            sys.modules.pop(name, None)
        sys.modules.update(before)


cameras, study, table = load_study()
NONE = Path("none.pth")


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, Path]:
    """A folder of made scenes, and a folder for results."""
    rng = np.random.default_rng(0)
    for name in ("scene", "other"):
        blocks = rng.integers(60, 200, (2, 3, 3)).astype(np.uint8)
        (tmp_path / "photos/of one").mkdir(parents=True, exist_ok=True)
        image = np.kron(blocks, np.ones((512, 512, 1), np.uint8))
        write_uint8(tmp_path / f"photos/of one/{name}.png", image)
    return tmp_path / "photos", tmp_path / "out"


def small_set() -> Any:
    camera = cameras.make_camera((2.0, 1.5), 30, (1, 2))
    return cameras.StudySet({"small": camera}, ("scene",), (("other", 1),), {"small": 3})


def test_sets_share_no_scene_and_have_the_photos_that_they_claim() -> None:
    names = {
        key: {*study_set.source, *(name for name, _ in study_set.test)}
        for key, study_set in cameras.SETS.items()
    }
    assert not names["tuning"] & names["report"]
    assert len(cameras.SETS["report"].cameras) == 4
    assert len(cameras.SETS["report"].test) == 8


@pytest.mark.parametrize("arm", study.list_arms(NONE, NONE))
def test_the_overrides_of_each_arm_are_a_configuration(arm: str) -> None:
    overrides = study.list_arms(NONE, NONE)[arm]
    config = load_config("train", ["+experiment=adapt", "data.source=x", *overrides])
    assert isinstance(config, TrainConfig)
    assert ("gan" in config.loss) == (not arm.startswith("l1"))


def test_the_arm_adapted_is_the_recipe_of_the_command() -> None:
    plain = load_config("train", ["+experiment=adapt", "data.source=x"])
    keys = study.list_arms(NONE, NONE)["adapted"]
    arm = load_config("train", ["+experiment=adapt", "data.source=x", *keys])
    lpips = dict(arm.loss["lpips"]) | {"weights": None}
    assert dict(arm.loss) | {"lpips": lpips} == {k: dict(v) for k, v in plain.loss.items()}
    assert arm.kernels == plain.kernels
    assert arm.online_degradation == plain.online_degradation
    assert arm.discriminator == plain.discriminator
    assert arm.optimiser == plain.optimiser


def test_photos_of_a_camera_and_a_training_of_each_pair(
    small: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    photos, output = small
    cameras.take_photos(photos, output, small_set())
    photo = read_uint8(output / "small/source/scene.png")
    assert photo.shape == (256, 384, 3)
    pairs = list_pairs(output / "small/true_pairs", 4)
    assert len(pairs) == cameras.VERSIONS
    clean = shrink_uint8(photo, 3)
    np.testing.assert_array_equal(read_uint8(pairs[0].hr), clean[:84, :128])
    assert (read_uint8(pairs[0].lr) != read_uint8(pairs[1].lr)).any(), "noise is drawn anew"

    sizes = {"name": "rrdb", "features": 4, "blocks": 1, "growth": 4}
    torch.manual_seed(0)
    save_generator(tmp_path / "tiny.safetensors", build_generator(sizes, 4), sizes, 4)
    tiny = ["generator.features=4", "generator.blocks=1", "generator.growth=4"]
    keys = [
        "loss=pixel",
        *tiny,
        f"init={tmp_path / 'tiny.safetensors'}",
        "trainer.crop=32",
        "pool.kernels=bicubic",
    ]
    for arm in ("true", "l1"):
        study.train(arm, keys, output / "small", clean_up=3, steps=2, seed=0)
        assert (output / f"small/runs/{arm}-2-0/generator_ema.safetensors").is_file()
    assert read_uint8(output / "small/pairs_0/HR/scene.png").shape == (84, 128, 3)


def test_the_table_averages_seeds_and_compares_with_df2k(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def score(psnr: float, lpips: float) -> dict[str, dict[str, float]]:
        values = {"ssim": 0.5, "dists": 0.2, "lpips_alex": lpips}
        return {"a": {"psnr": psnr, **values}, "b": {"psnr": psnr + 2, **values}}

    scores = {
        "df2k": score(20, 0.5),
        "adapted-9-0": score(21, 0.5),
        "adapted-9-1": score(22, 0.3),
        "adapted-8-0": score(90, 0.0),
    }
    for camera in ("mild", "wide"):
        (tmp_path / camera).mkdir()
        (tmp_path / camera / "scores.json").write_text(json.dumps(scores))
    monkeypatch.setattr("sys.argv", ["table.py", str(tmp_path), "--steps", "9"])
    table.main()
    text = capsys.readouterr().out
    row = next(line for line in text.splitlines() if line.startswith("| adapted"))
    assert "22.50 [21.50, 23.50]" in row
    assert "+1.50 [+1.50, +1.50]" in row
    assert "-20.0 %" in row
    assert "2/2" in row
    assert "4/4" in text[text.index("all cameras") :]
    # Of means 22 and 23, and of 0.5 and 0.3.
    assert "| mild | adapted | 2 | 0.71 | 0.1414 |" in text
