"""The adaptation of a tiny generator to made photos: model, report, resumption, and photos that lack something."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from small_work import Command, files, write_photos

from realsr.api import adaptation
from realsr.api.adaptation_report import Evidence, judge, write_report
from realsr.config.composition import load_config
from realsr.core.errors import Interrupted
from realsr.imaging import read_uint8, write_uint8
from realsr.networks import build_generator
from realsr.weights import load_generator, save_generator

SIZE = (256, 256)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A tiny generator in place of the published one."""
    torch.manual_seed(0)
    sizes = {"name": "rrdb", "features": 4, "blocks": 1, "growth": 4}
    save_generator(tmp_path / "tiny.safetensors", build_generator(sizes, 4), sizes, 4)
    return tmp_path / "tiny.safetensors"


@pytest.fixture(autouse=True)
def _no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AlexNet is neither cached nor can it be downloaded."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path / "hub"))
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)


def arguments(weights: Path, source: Path, minutes: float = 0.001) -> list[str]:
    return [
        f"source={source}",
        "output=out",
        f"minutes={minutes}",
        f"weights={weights}",
        "device=cpu",
    ]


def interrupt(*_: object) -> None:
    raise Interrupted("stopped", code=143)


def textured(folder: Path, names: str, flat: bool = False) -> Path:
    """Photos of strong texture everywhere, or, with `flat`, of nothing at all."""
    folder.mkdir()
    for name in names:
        rng = np.random.default_rng(list(name.encode()))
        image = rng.integers(0, 256, (*SIZE, 3)) if not flat else np.full((*SIZE, 3), 128)
        write_uint8(folder / f"{name}.png", image.astype(np.uint8))
    return folder


def test_model_report_and_figure(command: Command, tmp_path: Path, weights: Path) -> None:
    source = write_photos(tmp_path / "photos", "abc", SIZE, block=64)
    outcome = command("adapt", *arguments(weights, source))
    assert outcome.code == 0, outcome.log
    assert outcome.log.index("at most about 0.001 minutes in all") < outcome.log.index(
        "noise survey"
    )
    out = tmp_path / "out"
    report = (out / "report.md").read_text()
    for row in ("| bicubic |", "| published |", "| adapted |", "The adapted model is "):
        assert row in report
    plan = json.loads((out / "adapt.json").read_text())
    assert plan["steps"] == adaptation.MIN_STEPS, "no time is left in 0.06 seconds"
    assert load_generator(out / "model.safetensors")[1] == 4
    before, after = load_file(weights), load_file(out / "model.safetensors")
    assert any(not torch.equal(before[name], after[name]) for name in before)
    with Image.open(out / "before_after.png") as figure:
        figure.load()
    # Each photo is split into a part for the training and a held-out region.
    assert "held-out regions of a, b, c" in report
    for name in "abc":
        whole = read_uint8(out / f"work/pairs/HR/{name}.png")
        parts = [
            read_uint8(out / f"work/{part}/HR/{name}.png") for part in ("training", "held_out")
        ]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    trained = json.loads((out / "work/runs/adapt/manifest.json").read_text())["training"]["inputs"]
    assert len([name for name in trained if name.startswith("HR/")]) == 3

    made = files(out)
    again = command("adapt", *arguments(weights, source))
    assert again.code == 0
    assert "nothing to do" in again.log
    assert files(out) == made
    other = command("adapt", *arguments(weights, source, minutes=0.002))
    assert other.code == 1
    assert "minutes: was 0.001, now 0.002" in other.log


def test_an_interrupted_command_trains_the_same_number_of_steps(
    command: Command, tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_photos(tmp_path / "photos", "abc", SIZE, block=64)
    monkeypatch.setattr(adaptation, "MIN_STEPS", 7)
    with monkeypatch.context() as patch:
        patch.setattr(adaptation, "run_training", interrupt)
        assert command("adapt", *arguments(weights, source)).code == 143
    assert not (tmp_path / "out/model.safetensors").exists()
    monkeypatch.setattr(adaptation, "MIN_STEPS", 9)  # as if another speed were measured
    outcome = command("adapt", *arguments(weights, source))
    assert outcome.code == 0, outcome.log
    assert json.loads((tmp_path / "out/adapt.json").read_text())["steps"] == 7
    training = json.loads((tmp_path / "out/work/runs/adapt/manifest.json").read_text())["training"]
    assert training["items"]["generator"]["steps"] == 7
    assert training["config"]["optimiser.period"] == 7


def test_the_steps_fill_the_time(
    command: Command, tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_photos(tmp_path / "photos", "abc", SIZE, block=64)
    monkeypatch.setattr(adaptation, "measure_step", lambda *_: 50.0)
    monkeypatch.setattr(adaptation, "run_training", interrupt)
    assert command("adapt", *arguments(weights, source, minutes=30)).code == 143
    # Held out are 3 x 32 x 16 pixels of LR, drawn 3 x 64 x 64, and a step has 4 x 16 x 16: the
    # evaluation takes 2 x 13824 / 1024 / 3 of 50 seconds. 90 % of the rest of the time.
    rest = 30 * 60 - 2 * 13824 / 1024 / 3 * 50
    steps = json.loads((tmp_path / "out/adapt.json").read_text())["steps"]
    assert 0.9 * (rest - 60) / 50 - 1 < steps <= 0.9 * rest / 50


def test_lpips_is_in_the_loss_where_its_weights_are_and_steps_replace_the_time(
    command: Command, tmp_path: Path, weights: Path, feature_files: dict[str, Path]
) -> None:
    source = write_photos(tmp_path / "photos", "ab", SIZE, block=64)
    keys = [*arguments(weights, source), "steps=2"]
    outcome = command("adapt", *keys, f"lpips_weights={tmp_path / 'none.pth'}")
    assert outcome.code == 1
    assert f"lpips_weights={tmp_path / 'none.pth'}: there is no such file" in outcome.log
    outcome = command("adapt", *keys)
    assert outcome.code == 0, outcome.log
    assert "realsr.fetch what=[alexnet]" in outcome.log
    assert "continues with L1 alone" in outcome.log
    assert "set lpips_weights=FILE" in outcome.log
    for key in ("loss.lpips", "metric_files"):
        assert key not in outcome.log, "not a key of adapt"
    assert "evaluate; 2 steps. Results" in outcome.log
    assert json.loads((tmp_path / "out/adapt.json").read_text())["steps"] == 2
    assert "loss pixel, on" in (tmp_path / "out/report.md").read_text()
    keys[keys.index("output=out")] = "output=other"
    outcome = command("adapt", *keys, f"lpips_weights={feature_files['alexnet']}")
    assert outcome.code == 0, outcome.log
    report = (tmp_path / "other/report.md").read_text()
    assert "loss pixel + lpips + gan" in report
    assert "LPIPS" in report[report.index("The adapted model is") :].splitlines()[0]


def test_clean_photos_are_hr_at_their_own_size_and_of_one_photo_a_region_is_held_out(
    command: Command, tmp_path: Path, weights: Path
) -> None:
    source = write_photos(tmp_path / "photos", "a", SIZE, block=64)
    write_photos(tmp_path / "clean", "x", (128, 160), block=16)
    keys = [*arguments(weights, source), "steps=2", f"target={tmp_path / 'clean'}"]
    outcome = command("adapt", *keys)
    assert outcome.code == 0, outcome.log
    shapes = {
        name: read_uint8(tmp_path / f"out/work/pairs/HR/{name}.png").shape for name in ("a", "x")
    }
    assert shapes == {"a": (128, 128, 3), "x": (128, 160, 3)}
    manifest = json.loads((tmp_path / "out/work/runs/adapt/manifest.json").read_text())
    assert {"HR/a.png", "HR/x.png"} <= set(manifest["training"]["inputs"])
    assert "| adapted |" in (tmp_path / "out/report.md").read_text()


def test_photos_too_small_for_a_region_are_adapted_to_but_not_evaluated(
    command: Command, tmp_path: Path, weights: Path
) -> None:
    source = write_photos(tmp_path / "photos", "ab", (192, 192), block=64)
    outcome = command("adapt", *arguments(weights, source))
    assert outcome.code == 0, outcome.log
    assert "was not evaluated" in (tmp_path / "out/report.md").read_text()
    assert (tmp_path / "out/model.safetensors").is_file()


def test_photos_without_flat_tiles_are_adapted_to_without_noise(
    command: Command, tmp_path: Path, weights: Path
) -> None:
    source = textured(tmp_path / "photos", "abc")
    outcome = command("adapt", *arguments(weights, source))
    assert outcome.code == 0, outcome.log
    assert "no thresholds suit these photos" in outcome.log
    assert "continues without noise" in outcome.log
    for key in ("noise.size", "online_degradation="):
        assert key not in outcome.log, "not a key of adapt"
    assert "noise patches: 0" in (tmp_path / "out/report.md").read_text()


def test_photos_without_detail_are_adapted_to_with_bicubic_pairs(
    command: Command, tmp_path: Path, weights: Path
) -> None:
    source = textured(tmp_path / "photos", "abc", flat=True)
    outcome = command("adapt", *arguments(weights, source))
    assert outcome.code == 0, outcome.log
    assert "continues with bicubic" in outcome.log
    assert "no sound kernel" in (tmp_path / "out/report.md").read_text()


def test_other_cameras_and_small_or_unreadable_photos_are_named(
    command: Command, tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_photos(tmp_path / "photos", "abc", SIZE, block=64)
    monkeypatch.setattr(adaptation, "prepare_pairs", interrupt)
    for name, model in (("a", "One"), ("b", "Two")):
        with Image.open(source / f"{name}.png") as image:
            exif = image.getexif()
            exif[272] = model
            image.save(source / f"{name}.png", exif=exif)
    shutil.copytree(source, tmp_path / "small")
    write_photos(tmp_path / "small", "d", (100, 300))
    outcome = command("adapt", *arguments(weights, tmp_path / "small"))
    assert outcome.code == 1
    assert "1 of 4 photos have a side of less than 128 pixels: d.png: remove them" in outcome.log
    (source / "c.png").write_bytes(b"no image")
    outcome = command("adapt", *arguments(weights, source))
    assert outcome.code == 1
    assert "c.png: not a readable image" in outcome.log
    (source / "c.png").unlink()
    outcome = command("adapt", *arguments(weights, source))
    assert outcome.code == 143, outcome.log
    assert "photos of 2 cameras (One, Two)" in outcome.log
    assert command("adapt", "source=photos", "output=photos").code == 1


def test_the_verdict_needs_both_scores_and_gives_reasons() -> None:
    published = {"psnr": 20.0, "lpips_alex": 0.5}
    good = Evidence(5, [2.0, 3.0], 100, 2, 400, False, ["pixel"])
    means = {"published": published, "adapted": {"psnr": 21.0, "lpips_alex": 0.4}}
    assert judge(means, good) == (
        "The adapted model is better than the published one: PSNR +1.00 dB, LPIPS -20.0 %."
    )
    means["adapted"] = {"psnr": 21.0, "lpips_alex": 0.6}
    assert judge(means, good) == (
        "The adapted model is not better in both: PSNR +1.00 dB, LPIPS +20.0 %; better needs a higher "
        "PSNR and a lower LPIPS."
    )
    means["adapted"] = {"psnr": 19.0, "lpips_alex": 0.6}
    assert "not better than the published one: PSNR -1.00 dB, LPIPS +20.0 %." in judge(means, good)
    assert "reasons" not in judge(means, good)
    text = judge(means, Evidence(2, [0.5], 0, 2, 20, False, ["pixel"]))
    for reason in ("already sharp", "no measurable noise", "only 2 photos", "only 20 steps"):
        assert reason in text
    assert "set more minutes=N" in text
    assert "set larger steps=N" in judge(means, Evidence(2, [0.5], 0, 2, 20, True, ["pixel"]))
    means["adapted"] = {"psnr": 21.0, "lpips_alex": 0.4}
    without_lpips = {name: {"psnr": 20.0 + i, "ssim": 0.5 + i / 10} for i, name in enumerate(means)}
    assert "SSIM +20.0 %" in judge(without_lpips, good)


@pytest.mark.parametrize(
    ("level", "side", "factor"), [(1.0, 1000, 2), (4.5, 1000, 3), (30.0, 1000, 4), (30.0, 200, 3)]
)
def test_hr_is_downscaled_more_for_stronger_noise_as_far_as_the_photos_allow(
    tmp_path: Path, level: float, side: int, factor: int
) -> None:
    rng = np.random.default_rng(0)
    for name in "ab":
        patch = np.rint(rng.normal(128, level, (64, 64, 3))).clip(0, 255).astype(np.uint8)
        write_uint8(tmp_path / f"{name}_000.png", patch)
    (tmp_path / "photos").mkdir()
    write_uint8(tmp_path / "photos/a.png", np.zeros((side, 1200, 3), np.uint8))
    config = load_config("train", ["+experiment=adapt", f"data.source={tmp_path / 'photos'}"])
    assert adaptation.choose_clean_up(sorted(tmp_path.glob("*.png")), config) == factor


@pytest.mark.parametrize(("spread", "warns"), [(1.5, False), (2.4, True)])
def test_the_report_warns_of_soft_photos(tmp_path: Path, spread: float, warns: bool) -> None:
    keys = {"source": tmp_path / "photos", "output": tmp_path / "out"}
    config = load_config("adapt", [f"{key}={value}" for key, value in keys.items()])
    evidence = Evidence(3, [spread], 100, 2, 300, False, ["pixel"])
    text = write_report(tmp_path / "report.md", config, {}, [], 4, evidence)
    assert ("Warning: the photos are soft" in text) == warns
    assert ("Warning: the photos are soft" in (tmp_path / "report.md").read_text()) == warns
