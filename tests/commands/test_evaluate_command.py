import csv
import errno
import json
from pathlib import Path

import pytest
from PIL import Image
from skimage import data
from small_work import Command, write_photos

from full_disk import full_disk
from official_models import Published
from realsr.imaging import write_uint8
from realsr.networks import build_generator
from realsr.weights import save_generator


@pytest.fixture
def run(tmp_path: Path) -> Path:
    config = {"name": "rrdb", "features": 4, "blocks": 1, "growth": 4}
    folder = tmp_path / "run"
    folder.mkdir()
    save_generator(folder / "generator.safetensors", build_generator(config, 2), config, 2)
    return folder


@pytest.fixture
def hr(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "hr", "ab", (48, 51))


def test_models_side_by_side(command: Command, run: Path, hr: Path, tmp_path: Path) -> None:
    arguments = (
        "weights=[bicubic,run,run/generator.safetensors]",
        "data.hr=hr",
        "scale=2",
        "device=cpu",
    )
    outcome = command("evaluate", *arguments, "output=new/out")
    assert outcome.code == 0, outcome.log
    content = json.loads((tmp_path / "new/out/metrics.json").read_text())
    assert content["protocol"]["name"] == "realsr_release"
    assert content["protocol"]["crop"] == 2, "that of the scale"
    models = content["models"]
    assert list(models) == ["bicubic", "run", "run/generator.safetensors"]
    (weights,) = models["run"]["weights"]["files"].items()
    assert weights[0] == "run/generator.safetensors"
    assert len(weights[1]) == 64
    for key in ("mean", "interval", "images", "against"):
        assert models["run"][key] == models["run/generator.safetensors"][key]
    assert set(models["run"]["against"]) == {"bicubic"}
    bicubic = models["bicubic"]
    assert set(bicubic["images"]) == {"a", "b"}
    assert bicubic["mean"]["psnr"] == pytest.approx(
        sum(i["psnr"] for i in bicubic["images"].values()) / 2
    )
    assert f"{bicubic['mean']['psnr']:.2f}" in outcome.log
    assert "protocol realsr_release: x2, 8 bit, 2 border pixels cropped" in outcome.log
    with (tmp_path / "new/out/scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], row["model"]) for row in rows[:3]] == [("a", name) for name in models]
    assert float(rows[0]["psnr"]) == bicubic["images"]["a"]["psnr"]
    assert f"{bicubic['mean']['psnr']:.2f}" in (tmp_path / "new/out/table.md").read_text()
    assert sorted(path.name for path in (tmp_path / "new/out").iterdir()) == [
        "metrics.json",
        "scores.csv",
        "table.md",
    ]


def test_rows_of_each_strength(command: Command, run: Path, hr: Path, tmp_path: Path) -> None:
    strengths = "strengths=[1,0.75,0]"
    outcome = command(
        "evaluate", "weights=[bicubic,run]", strengths, "data.hr=hr", "scale=2", "output=out"
    )
    assert outcome.code == 0, outcome.log
    models = json.loads((tmp_path / "out/metrics.json").read_text())["models"]
    assert list(models) == ["bicubic", "run", "run, strength 0.75", "run, strength 0"]
    assert models["run, strength 0"]["images"] == models["bicubic"]["images"]
    assert models["run, strength 0.75"]["weights"]["strength"] == 0.75
    assert models["run, strength 0.75"]["mean"] != models["run"]["mean"]
    outcome = command("evaluate", "weights=[run]", "strengths=[1,1]", "data.hr=hr", "scale=2")
    assert (outcome.code, "strengths=[1,1]: expected" in outcome.log) == (1, True)
    assert command("evaluate", "weights=[run]", "strengths=[2]", "data.hr=hr").code == 1


def test_a_full_disk_ends_the_evaluation(command: Command, hr: Path) -> None:
    with full_disk(errno.ENOSPC):
        outcome = command(
            "evaluate",
            "weights=[bicubic]",
            "data.hr=hr",
            "scale=2",
            "output=out",
            "save_images=true",
        )
    assert outcome.code == 1
    assert "the disk says no" in outcome.log
    assert "could be scored" not in outcome.log


def test_a_changed_protocol_is_told(command: Command, hr: Path, tmp_path: Path) -> None:
    outcome = command(
        "evaluate", "data.hr=hr", "protocol=basicsr", "protocol.crop=1", "output=out", "scale=2"
    )
    assert outcome.code == 0, outcome.log
    assert "protocol basicsr, changed: crop=1: x2, 8 bit, 1 border pixels cropped" in outcome.log
    protocol = json.loads((tmp_path / "out/metrics.json").read_text())["protocol"]
    assert (protocol["changed"], protocol["crop"]) == (["crop=1"], 1)
    assert "changed: crop=1" in (tmp_path / "out/table.md").read_text()


def test_a_protocol_leaves_out_lpips_without_weights_unless_it_was_asked_for(
    command: Command, hr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path / "hub"))
    arguments = ("evaluate", "data.hr=hr", "protocol=ntire2020", "output=out", "scale=2")
    outcome = command(*arguments)
    assert outcome.code == 0, outcome.log
    assert "left out: lpips_alex: torchvision's AlexNet weights are missing: run" in outcome.log
    assert "python -m realsr.fetch what=[alexnet]" in outcome.log
    content = json.loads((tmp_path / "out/metrics.json").read_text())
    assert set(content["models"]["bicubic"]["mean"]) == {"psnr", "ssim_uniform"}
    assert content["protocol"]["changed"] == ["metrics=[psnr,ssim_uniform]"]
    outcome = command(*arguments, "overwrite=true", "protocol.metrics=[psnr,lpips_alex]")
    assert outcome.code == 1
    assert "lpips_alex: torchvision's AlexNet weights are missing" in outcome.log


def test_vacc_gives_one_size_to_all(command: Command, hr: Path, tmp_path: Path) -> None:
    outcome = command(
        "evaluate",
        "data.hr=hr",
        "protocol=vacc",
        "protocol.hr_side=64",
        "output=out",
        "save_images=true",
    )
    assert outcome.code == 0, outcome.log
    for name in "ab":
        with Image.open(tmp_path / f"out/images/bicubic/{name}.png") as picture:
            assert picture.size == (64, 64)


def test_pictures(command: Command, run: Path, hr: Path, tmp_path: Path) -> None:
    arguments = (
        "weights=[bicubic,./run]",
        "data.hr=hr",
        "scale=2",
        "output=out",
        "save_images=true",
    )
    outcome = command("evaluate", *arguments, "figures=[a,b:4:6:20:16]")
    assert outcome.code == 0, outcome.log
    made = {
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png")
    }
    assert made == {
        "figures/a.png", "figures/b.png", "images/bicubic/a.png", "images/bicubic/b.png", "images/run/a.png",
        "images/run/b.png",
    }  # fmt: skip
    outcome = command("evaluate", *arguments, "figures=[all]", "output=other")
    assert outcome.code == 0, outcome.log
    assert (tmp_path / "other/figures/b.png").is_file()
    outcome = command("evaluate", *arguments, "figures=[b:44:6:20:16]", "overwrite=true")
    assert outcome.code == 1
    assert "figure of b: 44,6,20,16 reaches beyond the image of 50x48 pixels" in outcome.log
    assert json.loads((tmp_path / "out/metrics.json").read_text())["failed"]


def test_an_evaluation_is_replaced_only_if_asked_to(
    command: Command, hr: Path, tmp_path: Path
) -> None:
    assert command("evaluate", "data.hr=hr", "scale=2", "output=out").code == 0
    before = (tmp_path / "out/metrics.json").read_text()
    outcome = command("evaluate", "data.hr=hr", "scale=2", "output=out", "protocol.crop=0")
    assert outcome.code == 1
    assert "out: already has an evaluation: set overwrite=true" in outcome.log
    assert (tmp_path / "out/metrics.json").read_text() == before
    outcome = command(
        "evaluate", "data.hr=hr", "scale=2", "output=out", "protocol.crop=0", "overwrite=true"
    )
    assert outcome.code == 0
    assert (tmp_path / "out/metrics.json").read_text() != before


def test_a_small_original_is_no_hr_of_vacc(command: Command, hr: Path) -> None:
    outcome = command("evaluate", "data.hr=hr", "protocol=vacc")
    assert "a.png: 51x48 pixels, upscaled to the protocol's 512 pixels a side" in outcome.log


def test_lr_from_a_folder(command: Command, hr: Path, tmp_path: Path) -> None:
    write_photos(tmp_path / "lr", "ab", (24, 25), block=8)
    assert command("evaluate", "data.hr=hr", "data.lr=lr", "scale=2").code == 0
    (tmp_path / "lr/b.png").rename(tmp_path / "lr/bx2.png")
    outcome = command("evaluate", "data.hr=hr", "data.lr=lr", "scale=2")
    assert outcome.code == 0, outcome.log
    assert "LR from lr" in outcome.log
    outcome = command("evaluate", "data.hr=hr", "data.lr=lr", "scale=4")
    assert outcome.code == 1
    assert "only hr has b; only lr has bx2" in outcome.log
    (tmp_path / "lr/bx2.png").rename(tmp_path / "lr/b.png")
    outcome = command("evaluate", "data.hr=hr", "data.lr=lr", "scale=4")
    assert outcome.code == 1
    assert "25x24 pixels, but HR is 51x48, prepared as 48x48; at scale=4" in outcome.log


def test_an_image_that_cannot_be_read_leaves_the_others(
    command: Command, hr: Path, tmp_path: Path
) -> None:
    (hr / "c.png").write_bytes((hr / "a.png").read_bytes()[:300])
    (hr / "d.png").write_bytes(b"")
    outcome = command("evaluate", "weights=[bicubic]", "data.hr=hr", "scale=2", "output=out")
    assert outcome.code == 1
    content = json.loads((tmp_path / "out/metrics.json").read_text())
    assert set(content["models"]["bicubic"]["images"]) == {"a", "b"}
    assert set(content["failed"]) == {"c", "d"}
    assert "2 could not be processed:" in outcome.log
    assert outcome.log.count("hr/c.png") == 1
    assert "c: hr/c.png" in (tmp_path / "out/table.md").read_text()
    assert "set output=DIR" not in outcome.log


def test_without_output_it_says_that_nothing_is_written(
    command: Command, hr: Path, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    outcome = command("evaluate", "weights=[bicubic]", "data.hr=hr", "scale=2")
    assert outcome.code == 0, outcome.log
    assert "nothing is written: set output=DIR to write the results" in outcome.log
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("scale=4", "run: trained for scale 2, but scale=4 was set"),
        ("weights=[nowhere]", "nowhere: no such file"),
        ("weights=[]", "weights=[]: name at least one model"),
        ("weights=[run,./run]", "run and ./run are the same"),
        ("data.hr=nowhere", "nowhere does not exist"),
        ("data.hr=null", "data.hr must be given"),
        ("device=cuda:99", "device=cuda:99: "),
        (
            "protocol.crop=22",
            "a: SSIM needs at least 11x11 pixels, got 6x4 (of 50x48, after crop=22)",
        ),
        ("protocol.metrics=[psnrr]", "psnrr"),
        ("protocol.metrics=[]", "name at least one metric"),
        ("figures=[c]", "figures: c: expected NAME or NAME:LEFT:TOP:WIDTH:HEIGHT"),
        ("output=null", "set output=DIR"),
        ("crops=2", "Did you mean protocol.crop"),
    ],
)
def test_bad_input(
    argument: str, message: str, command: Command, run: Path, hr: Path, tmp_path: Path
) -> None:
    arguments = ("weights=[run]", "data.hr=hr", "scale=2", "output=out", "figures=[a]")
    outcome = command("evaluate", *arguments, argument)
    assert outcome.code == 1
    assert message in outcome.log
    assert not (tmp_path / "out").exists()


def test_metrics_that_need_hr_are_named(command: Command, hr: Path) -> None:
    outcome = command("evaluate", "data.lr=hr", "scale=2")
    assert outcome.code == 1
    assert "data.hr must be given, since psnr, ssim, psnr_y, ssim_y need HR" in outcome.log


def test_photos_without_hr_by_a_metric_of_one_s_own(
    command: Command, hr: Path, tmp_path: Path
) -> None:
    (tmp_path / "brightness_of.py").write_text(
        "class Brightness:\n"
        "    higher_is_better, needs_hr, digits = True, False, 2\n\n"
        "    def compute(self, sr):\n"
        "        return float(sr.mean())\n"
    )
    (tmp_path / "own/metric").mkdir(parents=True)
    (tmp_path / "own/metric/brightness.yaml").write_text("name: brightness_of.Brightness\n")
    arguments = (
        "data.lr=hr",
        "scale=2",
        "protocol=ntire2020_track2",
        "protocol.metrics=[brightness]",
        "--config-dir=own",
    )
    outcome = command("evaluate", *arguments, "output=out", "figures=[a]")
    assert outcome.code == 0, outcome.log
    assert (
        "changed: metrics=[brightness]: x2, 8 bit, 0 border pixels cropped; no HR; LR from hr"
        in outcome.log
    )
    assert set(
        json.loads((tmp_path / "out/metrics.json").read_text())["models"]["bicubic"]["images"]
    ) == {"a", "b"}
    assert (tmp_path / "out/figures/a.png").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weights", "psnr", "ssim"), [("df2k", 27.27, 0.7834), ("df2k_jpeg", 25.97, 0.7207)]
)
def test_official_weights_have_their_known_scores(
    weights: str, psnr: float, ssim: float, published: Published, command: Command, tmp_path: Path
) -> None:
    """Four photos, protocol realsr_release, RGB."""
    expected = {"bicubic": (27.17, 0.7885), published(weights): (psnr, ssim)}
    (tmp_path / "hr").mkdir()
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        write_uint8(tmp_path / "hr" / f"{name}.png", getattr(data, name)())
    outcome = command(
        "evaluate", f"weights=[{','.join(expected)}]", "data.hr=hr", "output=out", "device=cpu"
    )
    assert outcome.code == 0, outcome.log
    models = json.loads((tmp_path / "out/metrics.json").read_text())["models"]
    for name, known in expected.items():
        assert models[name]["mean"]["psnr"] == pytest.approx(known[0], abs=0.01)
        assert models[name]["mean"]["ssim"] == pytest.approx(known[1], abs=0.0005)
