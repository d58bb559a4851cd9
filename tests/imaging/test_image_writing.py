import io
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from realsr.core.files import write_bytes
from realsr.imaging import (
    IMAGE_SUFFIXES,
    ImageError,
    Metadata,
    Photo,
    read_photo,
    read_uint8,
    to_float,
    to_uint8,
    write_photo,
    write_uint8,
)

LOSSLESS = [".png", ".tif", ".tiff", ".webp", ".bmp", ".PNG"]


def example(bits: int, gray: bool, alpha: bool, height: int = 70, width: int = 9) -> Photo:
    """A photo of random samples; 70 rows are two strips of a TIFF."""
    shape = (height, width, (1 if gray else 3) + alpha)
    samples = np.random.default_rng(0).integers(
        0, 2**bits, shape, np.uint16 if bits == 16 else np.uint8
    )
    if alpha:
        samples[: height // 2, :, -1] = 0  # colours under transparent pixels must be kept too
    return Photo(samples, Metadata())


def holds(suffix: str, bits: int, alpha: bool) -> bool:
    suffix = suffix.lower()
    return not (alpha and suffix == ".bmp") and not (
        bits == 16 and suffix not in (".png", ".tif", ".tiff")
    )


@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("alpha", [False, True])
def test_round_trip(tmp_path, suffix, bits, gray, alpha):
    photo, path = example(bits, gray, alpha), tmp_path / f"a{suffix}"
    if not holds(suffix, bits, alpha):
        with pytest.raises(ImageError, match="alpha" if alpha and suffix == ".bmp" else "16 bits"):
            write_photo(path, photo)
        return
    write_photo(path, photo)
    expected = photo.samples
    if gray and suffix == ".webp":  # which has no gray: equal channels
        expected = expected[..., [0, 0, 0, 1] if alpha else [0, 0, 0]]
    samples = read_photo(path).samples
    assert samples.dtype == expected.dtype
    np.testing.assert_array_equal(samples, expected)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg"])
@pytest.mark.parametrize("gray", [False, True])
def test_jpeg_is_of_high_quality_with_full_colour(tmp_path, suffix, gray):
    ramp = np.broadcast_to(np.linspace(0, 255, 32).astype(np.uint8), (32, 32))
    smooth = np.stack([ramp] if gray else [ramp.T, ramp, ramp], 2)
    write_photo(tmp_path / f"a{suffix}", Photo(smooth, Metadata()))
    samples = read_photo(tmp_path / f"a{suffix}").samples
    assert samples.shape == smooth.shape
    assert np.abs(samples.astype(int) - smooth).max() < 8
    with Image.open(tmp_path / f"a{suffix}") as file:
        quantization = getattr(file, "quantization")  # noqa: B009  Pillow's types do not know it
        assert quantization[0][0] == 2  # quality 95 of libjpeg's table: 16 becomes 2
        if not gray:
            assert all(sampling[1:3] == (1, 1) for sampling in getattr(file, "layer"))  # noqa: B009


@pytest.mark.parametrize("channels", ["RGB", "RGBA"])
def test_16_bit_files_are_understood_by_others(tmp_path, channels):
    photo = example(16, False, channels == "RGBA")
    expected = photo.samples
    for suffix in (".png", ".tif"):
        write_photo(tmp_path / f"a{suffix}", photo)
        data = (tmp_path / f"a{suffix}").read_bytes()
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(decoded[..., [2, 1, 0, 3][: len(channels)]], expected)
        with Image.open(io.BytesIO(data)) as image:
            assert image.mode == channels
            assert np.abs(np.asarray(image).astype(int) - expected / 257.0).max() <= 1


def test_values_are_clamped_and_rounded_half_to_even():
    values = torch.tensor([-1.0, 0.5, 1.5, 2.5, 254.5, 300.0]) / 255
    expected = [0, 0, 2, 2, 254, 255]
    image = values.expand(3, 1, 6)
    assert to_uint8(image)[0, :, 0].tolist() == expected


def test_to_float_and_back():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)[..., None].repeat(3, 2)
    image = to_float(levels)
    assert image.shape == (3, 16, 16)
    assert (image.dtype, image.min(), image.max()) == (torch.float32, 0, 1)
    np.testing.assert_array_equal(to_uint8(image), levels)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".bmp"])
def test_arrays_round_trip(tmp_path, suffix):
    array = np.random.default_rng(0).integers(0, 256, (20, 31, 3), dtype=np.uint8)
    write_uint8(tmp_path / f"a{suffix}", array[:, ::-1])
    np.testing.assert_array_equal(read_uint8(tmp_path / f"a{suffix}"), array[:, ::-1])


@pytest.mark.parametrize("array", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_other_arrays_are_refused(tmp_path, array):
    with pytest.raises(ValueError, match="uint8"):
        write_uint8(tmp_path / "a.png", array)


@pytest.mark.parametrize(
    ("suffix", "photo", "reason"),
    [
        (".jpg", example(8, False, True), "alpha"),
        (".bmp", example(8, True, True), "alpha"),
        (".webp", example(16, False, False), "16 bits"),
        (".jpg", example(16, True, False), "16 bits"),
        (".gif", example(8, False, False), r"\.png"),
        ("", example(8, False, False), "suffix"),
        (".webp", example(8, False, False, height=1, width=16384), "16383"),
        (".jpg", example(8, False, False, height=65501, width=1), "65500"),
    ],
)
def test_what_a_format_cannot_hold_is_said_and_leaves_nothing(tmp_path, suffix, photo, reason):
    with pytest.raises(ImageError, match=reason) as error:
        write_photo(tmp_path / f"name{suffix}", photo)
    assert str(tmp_path / f"name{suffix}") in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_the_largest_webp_is_written(tmp_path):
    write_photo(tmp_path / "a.webp", example(8, False, False, height=1, width=16383))
    assert read_uint8(tmp_path / "a.webp").shape == (1, 16383, 3)


@pytest.mark.parametrize("failure", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, failure):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    seen: list[Path] = []

    def replace(self, target):
        seen.extend(tmp_path.iterdir())
        raise failure

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises((ImageError, KeyboardInterrupt)):
        write_photo(path, example(8, False, False))
    assert {p.name for p in seen} == {"a.png", ".a.png.realsr.tmp"}
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.png", b"old")]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"nowhere/a\.png cannot be written: No such file"):
        write_uint8(tmp_path / "nowhere" / "a.png", np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(FileNotFoundError):
        write_bytes(tmp_path / "nowhere" / "a.json", b"{}")
    assert list(tmp_path.iterdir()) == []


def test_every_listed_suffix_can_be_written_and_read(tmp_path):
    for suffix in IMAGE_SUFFIXES:
        write_uint8(tmp_path / f"a{suffix}", np.full((8, 8, 3), 100, np.uint8))
        assert np.abs(read_uint8(tmp_path / f"a{suffix}").astype(int) - 100).max() <= 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_not_written(value):
    image = torch.full((3, 4, 5), 0.5)
    image[1, 2, 3] = value
    with pytest.raises(ImageError, match="not finite"):
        to_uint8(image)


@pytest.mark.parametrize("metadata", [Metadata(), Metadata(exif=b"MM\0*\0\0\0\x08\0\0\0\0\0\0")])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_alpha_that_is_opaque_everywhere_is_kept(suffix, metadata, tmp_path):
    samples = np.random.default_rng(0).integers(0, 256, (9, 12, 4), np.uint8)
    samples[..., 3] = 255
    write_photo(tmp_path / f"a{suffix}", Photo(samples, metadata))
    np.testing.assert_array_equal(read_photo(tmp_path / f"a{suffix}").samples, samples)
