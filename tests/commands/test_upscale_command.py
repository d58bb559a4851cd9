from pathlib import Path

import numpy as np
import pytest
import torch
from small_work import Command, files, write_photos

from realsr.imaging import read_uint8, resize, to_float, to_uint8, write_uint8
from realsr.networks import build_generator
from realsr.weights import save_generator


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose generator changes colours."""
    config = {"name": "rrdb", "features": 4, "blocks": 1, "growth": 4}
    folder = tmp_path / "run"
    folder.mkdir()
    torch.manual_seed(0)
    generator = build_generator(config, 2)
    torch.nn.init.constant_(generator.get_parameter("conv_last.bias"), 0.5)
    save_generator(folder / "generator.safetensors", generator, config, 2)
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    write_photos(tmp_path / "photos/more", "c", (20, 24))
    return write_photos(tmp_path / "photos", "ab", (30, 41))


def test_a_folder_then_nothing_then_again(
    command: Command, run: Path, photos: Path, tmp_path: Path
) -> None:
    call = ("upscale", "input=photos", "output=new", "weights=run", "device=cpu", "format=webp")
    outcome = command(*call)
    assert outcome.code == 0, outcome.log
    assert set(files(tmp_path / "new")) == {"a.webp", "b.webp", "more/c.webp"}
    assert read_uint8(tmp_path / "new/more/c.webp").shape == (40, 48, 3)
    before = files(tmp_path / "new")

    (tmp_path / "new/b.webp").unlink()
    outcome = command(*call)
    assert (
        "2 of 3 results exist and are skipped, such as new/a.webp: set overwrite=true"
        in outcome.log
    )
    now = files(tmp_path / "new")
    assert now["a.webp"] == before["a.webp"]
    assert "b.webp" in now

    assert command(*call, "overwrite=true").code == 0
    assert files(tmp_path / "new")["a.webp"] > before["a.webp"]


def test_one_photo_in_any_precision_and_cut(
    command: Command, run: Path, photos: Path, tmp_path: Path
) -> None:
    def result(*arguments: str) -> np.ndarray:
        outcome = command(
            "upscale",
            "input=photos/a.png",
            "output=a2.png",
            "weights=run",
            "overwrite=true",
            "device=cpu",
            *arguments,
        )
        assert outcome.code == 0, outcome.log
        return read_uint8(tmp_path / "a2.png").astype(int)

    exact = result("precision=fp32")
    assert np.abs(exact - result("precision=fp32", "tile=24", "overlap=8")).max() <= 1
    assert np.abs(exact - result("precision=bf16")).max() <= 3
    assert np.abs(exact - result("precision=auto")).max() <= 3
    assert not np.array_equal(exact, result("precision=fp32", "ensemble=true"))
    small = resize(to_float(result("consistency=true").astype(np.uint8)), factor=0.5)
    photo = read_uint8(tmp_path / "photos/a.png").astype(int)
    assert np.abs(to_uint8(small).astype(int) - photo).max() <= 2
    assert (
        np.abs(
            to_uint8(resize(to_float(exact.astype(np.uint8)), factor=0.5)).astype(int) - photo
        ).max()
        > 20
    )


def test_strength_and_interpolation(
    command: Command, run: Path, photos: Path, tmp_path: Path
) -> None:
    config = {"name": "rrdb", "features": 4, "blocks": 1, "growth": 4}
    save_generator(tmp_path / "b.safetensors", build_generator(config, 2), config, 2)

    def result(*arguments: str) -> np.ndarray:
        photo = ("input=photos/a.png", "output=a2.png", "overwrite=true", "device=cpu")
        outcome = command("upscale", *photo, "weights=run", "precision=fp32", *arguments)
        assert outcome.code == 0, outcome.log
        return read_uint8(tmp_path / "a2.png").astype(int)

    bicubic = to_uint8(resize(to_float(read_uint8(photos / "a.png")), factor=2.0))
    np.testing.assert_array_equal(result("strength=0"), bicubic)
    plain, half = result(), result("strength=0.5")
    assert np.abs(2 * half - plain - bicubic).max() <= 6  # the network's result was clamped
    first = result("weights_b=b.safetensors", "interpolate=0")
    np.testing.assert_array_equal(first, plain)
    second = result("weights_b=b.safetensors", "interpolate=1")
    assert np.abs(second - plain).max() > 3
    np.testing.assert_array_equal(second, result("weights=b.safetensors"))


def test_bicubic_to_compare_with(command: Command, photos: Path, tmp_path: Path) -> None:
    assert (
        command(
            "upscale", "input=photos/a.png", "output=big.tif", "weights=bicubic", "scale=3"
        ).code
        == 0
    )
    expected = to_uint8(resize(to_float(read_uint8(tmp_path / "photos/a.png")), factor=3.0))
    assert np.abs(read_uint8(tmp_path / "big.tif").astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    "name", ["IMG (1).png", "ünï.png", "it's.png", "a[1].png", "a=b.png", "a,b.png"]
)
def test_any_file_name(name: str, command: Command, photos: Path, tmp_path: Path) -> None:
    (photos / "a.png").rename(photos / name)
    outcome = command(
        "upscale", f"input=photos/{name}", f"output=big {name}", "weights=bicubic", "scale=2"
    )
    assert (tmp_path / f"big {name}").exists(), outcome.log
    outcome = command("upscale", f"photos/{name}", "output=new", "weights=bicubic", "scale=2")
    assert (tmp_path / "new" / name).exists(), outcome.log


def test_one_result_without_a_place_and_a_name_that_is_too_long(
    command: Command, photos: Path, tmp_path: Path
) -> None:
    long = "y" * 251
    (photos / "b.png").rename(photos / f"{long}.png")
    (tmp_path / "new").mkdir()
    (tmp_path / "new/more").write_text("precious")
    outcome = command(
        "upscale", "input=[photos]", "output=new", "weights=bicubic", "scale=2", "format=webp"
    )
    assert outcome.code == 1
    assert "more/c.png cannot be upscaled into new/more (" in outcome.log
    assert f"{long}.png cannot be upscaled into new (the name" in outcome.log
    assert "2 of 3 photos could not be upscaled" in outcome.log
    assert set(files(tmp_path / "new")) == {"more", "a.webp"}


def test_several_photos_and_a_folder_with_a_dot(
    command: Command, photos: Path, tmp_path: Path
) -> None:
    outcome = command(
        "upscale",
        "input=[photos/a.png,photos/more]",
        "output=new.v2/",
        "weights=bicubic",
        "scale=2",
    )
    assert outcome.code == 0, outcome.log
    assert set(files(tmp_path / "new.v2")) == {"a.png", "c.png"}


@pytest.mark.parametrize("size", [(1, 1), (1, 20000)])
def test_thin_photos(size: tuple[int, int], command: Command, run: Path, tmp_path: Path) -> None:
    write_uint8(tmp_path / "thin.png", np.full((*size, 3), 7, np.uint8))
    outcome = command("upscale", "input=thin.png", "output=new", "weights=run", "device=cpu")
    assert outcome.code == 0, outcome.log
    assert read_uint8(tmp_path / "new/thin.png").shape == (2 * size[0], 2 * size[1], 3)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("input=nowhere", "nowhere does not exist"),
        ("output=big.gif", ".gif is not a supported output format"),
        ("output=photos/a.png", "would overwrite a photo"),
        ("output=photos/new.gif.png/../../photos/a.png", "would overwrite a photo"),
        ("weights=nowhere", "nowhere: no such file"),
        ("weights=dped", "its authors publish DPED.pth"),
        ("weights=bicubic", "set scale, for instance scale=4"),
        ("scale=4", "trained for scale 2, but scale=4 was set"),
        ("precision=int8", "precision=int8: expected one of auto, bf16, fp16, fp32"),
        ("tile=32", "tile=32 overlap=96"),
        ("device=cuda:99", "device=cuda:99: "),
        ("weight=run", "Did you mean weights"),
    ],
)
def test_bad_input(
    argument: str, message: str, command: Command, run: Path, photos: Path, tmp_path: Path
) -> None:
    outcome = command("upscale", "input=photos/a.png", "output=new/a.png", "weights=run", argument)
    assert outcome.code == 1
    assert message in outcome.log
    assert not (tmp_path / "new").exists()
