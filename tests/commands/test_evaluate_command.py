import json
from pathlib import Path

import pytest
from small_work import Command, write_photos

from realsr.networks import GeneratorConfig, build_generator
from realsr.weights import save_generator


@pytest.fixture
def run(tmp_path: Path) -> Path:
    config = GeneratorConfig(features=4, blocks=1, growth=4)
    folder = tmp_path / "run"
    folder.mkdir()
    save_generator(folder / "generator.safetensors", build_generator(config, 2), config, 2)
    return folder


@pytest.fixture
def hr(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "hr", "ab", (48, 51))


def test_models_side_by_side(command: Command, run: Path, hr: Path, tmp_path: Path) -> None:
    arguments = ("weights=[bicubic,run,run/generator.safetensors]", "data.hr=hr", "scale=2", "device=cpu")
    ended = command("evaluate", *arguments, "output=new/out")
    assert ended.code == 0, ended.said
    content = json.loads((tmp_path / "new/out/metrics.json").read_text())
    assert content["crop"] == 2, "that of the scale"
    assert set(content["models"]) == {"bicubic", "run", "run/generator.safetensors"}
    assert content["models"]["run"] == content["models"]["run/generator.safetensors"]
    bicubic = content["models"]["bicubic"]
    assert set(bicubic["images"]) == {"a", "b"}
    assert bicubic["mean"]["psnr"] == pytest.approx(sum(i["psnr"] for i in bicubic["images"].values()) / 2)
    assert f"{bicubic['mean']['psnr']:.2f}" in ended.said


def test_lr_from_a_folder(command: Command, hr: Path, tmp_path: Path) -> None:
    write_photos(tmp_path / "lr", "ab", (24, 25), block=8)
    assert command("evaluate", "data.hr=hr", "data.lr=lr", "scale=2").code == 0
    ended = command("evaluate", "data.hr=hr", "data.lr=lr", "scale=4")
    assert ended.code == 1
    assert "25x24 pixels, but its HR has 48x48; at scale=4" in ended.said
    (tmp_path / "lr/b.png").rename(tmp_path / "lr/c.png")
    ended = command("evaluate", "data.hr=hr", "data.lr=lr", "scale=2")
    assert ended.code == 1
    assert "only one has b, c" in ended.said


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("scale=4", "run: trained for scale 2, but scale=4 was asked for"),
        ("weights=[nowhere]", "nowhere: no such file"),
        ("weights=[]", "weights=[]: name at least one model"),
        ("data.hr=nowhere", "the folder nowhere does not exist"),
        ("device=cuda:99", "device=cuda:99 cannot be used"),
        ("crop=22", "a: cannot be scored"),
        ("crops=2", "Did you mean crop"),
    ],
)
def test_bad_input(argument: str, said: str, command: Command, run: Path, hr: Path) -> None:
    ended = command("evaluate", "weights=[run]", "data.hr=hr", "scale=2", argument)
    assert ended.code == 1
    assert said in ended.said
