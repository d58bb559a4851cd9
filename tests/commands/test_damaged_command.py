from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_work import Command

from realsr.imaging import read_uint8

PHOTO = "damaged (its compressed data are corrupt"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "jpegs"
    folder.mkdir()
    pixels = np.random.default_rng(0).normal(128, 20, (64, 80, 3)).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "a.jpg", quality=95)
    data = (folder / "a.jpg").read_bytes()
    middle = len(data) // 2
    (folder / "b.jpg").write_bytes(data[:middle] + bytes(60) + data[middle + 60 :])
    return folder


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("check_data", ["+track=dped", "data.source=jpegs", "loss.perceptual.weight=0"]),
        ("make_pairs", ["+track=df2k", "pool=bicubic", "pairs.hr=[source]", "data.source=jpegs"]),
        ("upscale", ["input=jpegs", "output=out", "weights=bicubic", "scale=2"]),
        ("evaluate", ["weights=[bicubic]", "data.hr=jpegs", "scale=2", "protocol.metrics=[psnr]"]),
    ],
)
def test_a_command_refuses_a_damaged_photo_or_accepts_it(
    command: Command, photos: Path, name: str, arguments: list[str]
) -> None:
    refused = command(name, *arguments)
    assert refused.code == 1
    assert PHOTO in refused.log
    assert "set damaged=accept" in refused.log
    accepted = command(name, *arguments, "damaged=accept")
    assert accepted.code == 0, accepted.log
    assert accepted.log.count(PHOTO) == 1
    unknown = command(name, *arguments, "damaged=yes")
    assert unknown.code == 1
    assert "damaged=yes: expected one of refuse, accept" in unknown.log
    assert PHOTO not in unknown.log, "before any work"
    if name == "upscale":
        assert read_uint8(Path("out/b.jpg")).shape == (128, 160, 3)


def test_export_has_the_key(command: Command) -> None:
    outcome = command("export", "weights=df2k", "output=a.pth", "damaged=no")
    assert outcome.code == 1
    assert "damaged=no: expected one of refuse" in outcome.log
