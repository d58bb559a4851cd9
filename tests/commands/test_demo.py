import hashlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_work import Command, files

from config_files import run_stub
from realsr.api import demo_study as demo
from realsr.api.demo_study import (
    CAMERA,
    SOURCE,
    TARGET,
    TEST,
    bicubic_arm,
    describe,
    draw,
    photograph,
    summarise,
)
from realsr.config.pipeline import TrainConfig
from realsr.core.errors import UserError
from realsr.data.validation_images import ValidationImage
from realsr.evaluation.scoring import bicubic_model
from realsr.imaging import apply_kernel, read_uint8, to_float


@pytest.fixture
def small_photographs(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], np.ndarray]:
    def load(name: str) -> np.ndarray:
        seed = list(hashlib.sha256(name.encode()).digest())
        return np.kron(
            np.random.default_rng(seed).integers(60, 200, (7, 8, 3)), np.ones((8, 8, 1))
        ).astype(np.uint8)

    monkeypatch.setattr(demo, "load_photograph", load)
    return load


def test_source_target_and_test_are_disjoint() -> None:
    names = [*SOURCE, *TARGET, *TEST]
    assert len(set(names)) == len(names)
    assert set(demo.ZOOM) == set(TEST)


def test_the_camera_is_a_blur_of_direction_that_is_aligned() -> None:
    kernel = CAMERA.kernel
    assert CAMERA.scale == 2
    assert CAMERA.noise_levels == (2.0, 3.5)
    assert kernel.sum() == pytest.approx(1)
    y, x = np.mgrid[: kernel.shape[0], : kernel.shape[1]]
    centre = kernel.shape[0] // 2 + 0.5
    assert (kernel * y).sum() == pytest.approx(centre, abs=0.02)
    assert (kernel * x).sum() == pytest.approx(centre, abs=0.02)
    spread = np.cov(np.stack([y.ravel(), x.ravel()]), aweights=kernel.ravel(), ddof=0)
    short, long = np.linalg.eigvalsh(spread) ** 0.5
    assert long / short > 1.5, "anisotropic"


def test_photograph_writes_what_each_may_see(
    small_photographs: Callable[[str], np.ndarray], tmp_path: Path
) -> None:
    photograph(tmp_path, seed=0)
    found = {
        folder: {p.stem for p in (tmp_path / folder).iterdir()} for folder in ("source", "target")
    }
    found |= {
        folder: {p.stem for p in (tmp_path / folder).iterdir()} for folder in ("test/LR", "test/HR")
    }
    assert found == {
        "source": set(SOURCE),
        "target": set(TARGET),
        "test/LR": set(TEST),
        "test/HR": set(TEST),
    }
    for name in TEST:
        hr = to_float(read_uint8(tmp_path / "test/HR" / f"{name}.png"))
        lr = to_float(read_uint8(tmp_path / "test/LR" / f"{name}.png"))
        assert np.array_equal(
            read_uint8(tmp_path / "test/HR" / f"{name}.png"), small_photographs(name)
        )
        noise = (lr - apply_kernel(hr, CAMERA.kernel, 2)) * 255
        assert 1.2 < noise.std() < 4.5
        assert abs(noise.mean()) < 0.6
    before = files(tmp_path)
    photograph(tmp_path, seed=0)
    assert files(tmp_path) == before
    with pytest.raises(UserError, match="seed: was 0, now 1"):
        photograph(tmp_path, seed=1)


def test_the_bicubic_arm_differs_in_its_pairs_and_its_look_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: list[TrainConfig] = []
    monkeypatch.setattr(sys, "argv", ["x", "work_dir=D"])
    run_stub("demo", found.append)
    (pool,) = found
    bicubic = bicubic_arm(pool)
    assert (pool.pool.kernels, pool.pool.noise) == ("estimated", True)
    assert (bicubic.pool.kernels, bicubic.pool.noise) == ("bicubic", False)
    assert (bicubic.run, pool.run) == (Path("D/bicubic"), Path("D/pool"))
    assert bicubic.pairs_dir != pool.pairs_dir
    assert bicubic.pairs.hr == pool.pairs.hr == ["target"]
    for name in (
        "scale",
        "seed",
        "data",
        "online_degradation",
        "generator",
        "discriminator",
        "loss",
        "optimiser",
        "trainer",
    ):
        assert getattr(bicubic, name) == getattr(pool, name)
    assert pool.loss.keys() == {"pixel", "gan"}
    assert pool.loss["gan"]["weight"] == 0.0001


SCORES = {
    name: {photo: {"psnr": base + i, "ssim": 0.5 + i / 10} for i, photo in enumerate(TEST)}
    for name, base in (
        ("bicubic_interpolation", 20.0),
        ("trained_on_bicubic", 21.0),
        ("trained_on_pool", 22.0),
    )
}


def test_summary_and_table() -> None:
    flat = np.full((13, 13), 1 / 169)
    metrics = summarise(
        SCORES, {"camera": CAMERA.kernel * 0.999 + flat * 0.001, "coins": flat}, noise_patches=7
    )
    assert set(metrics) == {*SCORES, "kernel_psnr", "noise_patches"}
    assert metrics["trained_on_pool"] == {"psnr": pytest.approx(22.5), "ssim": pytest.approx(0.55)}
    assert metrics["noise_patches"] == 7
    assert isinstance(metrics["kernel_psnr"], float)
    text = describe(metrics, Path("runs/demo"))
    assert "trained_on_pool           22.50   0.5500" in text
    assert "noise patches: 7" in text
    assert text.strip().startswith("report    runs/demo/report.html")
    assert "runs/demo/comparison.png" in text
    assert "LPIPS and DISTS: run python -m realsr.fetch what=[alexnet,vgg16] first" in text
    with_lpips = {
        name: {photo: {**row, "lpips_alex": 0.25, "dists": 0.125} for photo, row in rows.items()}
        for name, rows in SCORES.items()
    }
    text = describe(summarise(with_lpips, {"camera": CAMERA.kernel}, 7), Path("runs/demo"))
    assert "PSNR dB     SSIM    LPIPS    DISTS" in text
    assert "trained_on_pool           22.50   0.5500   0.2500   0.1250" in text
    assert "realsr.fetch" not in text


def test_the_picture_shows_all_models_and_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []
    monkeypatch.setattr(
        demo, "write_comparison", lambda path, rows, kernels: shown.append((rows, kernels))
    )
    images = [
        ValidationImage(name, torch.rand(3, 150, 200), torch.rand(3, 300, 400)) for name in TEST
    ]
    models = dict.fromkeys(SCORES, bicubic_model(2))
    views = {image.name: demo.make_views(image, models) for image in images}
    arguments = (tmp_path / "comparison.png", views, SCORES, {"camera": np.eye(13) / 13})
    draw(*arguments)
    ((rows, kernels),) = shown
    assert [name for name, _, _ in rows] == list(TEST)
    for (_, crops, _), image in zip(rows, images, strict=True):
        assert list(crops) == ["LR", *(name.replace("_", " ") for name in SCORES), "HR"]
        assert {tuple(x.shape) for x in crops.values()} == {(3, demo.ZOOM_SIDE, demo.ZOOM_SIDE)}
        top, left = demo.ZOOM[image.name]
        assert torch.equal(crops["HR"][:, 0, 0], image.hr[:, top, left])
        assert torch.equal(crops["LR"][:, 0, 0], image.lr[:, top // 2, left // 2])
    assert next(iter(kernels)) == "true kernel"
    monkeypatch.undo()
    draw(*arguments)
    with Image.open(tmp_path / "comparison.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 5 * 128


def test_photographs_are_read_from_the_wheel() -> None:
    for name in (*SOURCE, *TEST):
        image = demo.load_photograph(name)
        assert image.ndim == 3
        assert image.shape[2] == 3
        assert image.dtype == np.uint8
    top, left = demo.ZOOM["coffee"]
    height, width = demo.load_photograph("coffee").shape[:2]
    assert top + demo.ZOOM_SIDE <= height
    assert left + demo.ZOOM_SIDE <= width


@pytest.mark.slow
def test_the_whole_demo_with_few_steps(command: Command, tmp_path: Path) -> None:
    small = ("work_dir=D", "kernels.gates=null", "trainer.max_steps=4", "trainer.device=cpu")
    outcome = command("demo", *small)
    assert outcome.code == 0, outcome.log
    assert outcome.log.index("trained for 4 steps each") < outcome.log.index("Arm bicubic")
    assert re.search(r"This takes about \d+ min on this machine", outcome.log)
    page = (tmp_path / "D/report.html").read_text(encoding="utf-8")
    assert "True and estimated kernels" in page
    assert page.count("<img-comparison-slider role") == len(TEST) + 1  # and the held-out photo
    metrics = json.loads((tmp_path / "D/metrics.json").read_text())
    assert set(metrics) >= {
        "bicubic_interpolation", "trained_on_bicubic", "trained_on_pool", "kernel_psnr", "noise_patches",
    }  # fmt: skip
    for name in ("bicubic_interpolation", "trained_on_bicubic", "trained_on_pool"):
        assert set(metrics[name]) >= {"psnr", "ssim"}
    assert metrics["bicubic_interpolation"]["psnr"] > 20
    assert metrics["noise_patches"] >= 1
    with Image.open(tmp_path / "D/comparison.png") as picture:
        picture.load()
    for arm in ("bicubic", "pool"):
        assert (tmp_path / "D" / arm / "generator.safetensors").is_file()
    made = files(tmp_path / "D/stages") | files(tmp_path / "D/pool")
    assert command("demo", *small).code == 0
    assert files(tmp_path / "D/stages") | files(tmp_path / "D/pool") == made
