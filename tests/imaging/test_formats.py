"""Images of formats that are not read are named as such, by their content; other names of the formats that are read."""

import io
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from realsr.imaging import (
    IMAGE_SUFFIXES,
    ImageError,
    find_images,
    list_images,
    read_uint8,
    write_uint8,
)
from realsr.imaging.formats import IMAGE_SIGNATURES, READ_FORMATS, UNREAD_SUFFIXES

PHOTO = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)


def encode(kind: str) -> bytes:
    with io.BytesIO() as file:
        Image.fromarray(PHOTO).save(file, kind)
        return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("GIF", "GIF"),
        ("PPM", "Netpbm"),
        ("PDF", "PDF"),
        ("DDS", "DDS"),
        ("ICO", "icon"),
        ("EPS", "PostScript"),
    ]
    + [("AVIF", "AVIF")] * features.check("avif")
    + [("JPEG2000", "JPEG 2000")] * features.check("jpg_2000"),
)
def test_files_that_pillow_writes(kind: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encode(kind))
    with pytest.raises(
        ImageError,
        match=rf"photo\.jpg has the format {message}, which is not supported\. Convert it to PNG",
    ):
        read_uint8(path)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "AVIF"),
        (b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom", "camera raw"),
        (b"\xff\x0a\xfa\x1f", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"8BPS\0\x01", "Photoshop"),
        (b"FUJIFILMCCD-RAW 0201", "camera raw"),
        (b"\x76\x2f\x31\x01\x02", "OpenEXR"),
        (b"#?RADIANCE\n", "Radiance HDR"),
        (b'<?xml version="1.0"?>\n<svg width="9">', "SVG"),
    ],
)
def test_files_that_are_known_by_their_first_bytes(
    start: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(start + bytes(500))
    with pytest.raises(
        ImageError, match=rf"photo\.jpg has the format {message}, which is not supported"
    ):
        read_uint8(path)


@pytest.mark.parametrize("content", [b"\0\0\0\x18ftypmp42\0\0\0\0isommp42", b"words", bytes(600)])
def test_other_files_are_of_no_known_format(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(
        ImageError, match="is not a supported image: expected PNG, JPEG, TIFF, WEBP, BMP"
    ):
        read_uint8(path)


def test_a_folder_s_other_images_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    write_uint8(tmp_path / "a.png", PHOTO)
    for name in ("b.HEIC", "c.nef", "d.gif", "notes.txt"):
        (tmp_path / name).touch()
    for listed in (list_images, find_images):
        assert [path.name for path in listed(tmp_path)] == ["a.png"]
    assert caplog.messages == [
        f"{tmp_path}: 3 images (b.HEIC, c.nef, d.gif) in unsupported formats: convert to PNG or TIFF",
        f"{tmp_path}: skipped: 1 other file (notes.txt)",
    ]
    (tmp_path / "a.png").unlink()
    with pytest.raises(ImageError, match="has no images"):
        list_images(tmp_path)


def test_a_raw_file_is_not_read_as_the_preview_in_it(tmp_path: Path) -> None:
    (tmp_path / "photo.NEF").write_bytes(encode("TIFF"))
    with pytest.raises(
        ImageError, match=r"photo\.NEF has the format camera raw, which is not supported"
    ):
        find_images(tmp_path / "photo.NEF")


def test_a_format_that_is_known_by_its_suffix_alone(tmp_path: Path) -> None:
    (tmp_path / "photo.tga").write_bytes(encode("TGA"))
    with pytest.raises(ImageError, match=r"photo\.tga has the format TGA, which is not supported"):
        read_uint8(tmp_path / "photo.tga")


def test_a_suffix_is_read_or_not() -> None:
    assert not IMAGE_SUFFIXES.intersection(UNREAD_SUFFIXES)


def test_each_signature_is_of_a_format_that_has_suffixes() -> None:
    assert {kind for _, _, kind in IMAGE_SIGNATURES} <= {*READ_FORMATS, *UNREAD_SUFFIXES.values()}


@pytest.mark.parametrize(
    "suffix", [".jpe", ".jfif", ".jif", ".jps", ".mpo", ".JPEG", ".dib", ".tiff"]
)
def test_other_suffixes_of_formats_that_are_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"photo{suffix}"
    kind = {".mpo": "MPO", ".dib": "BMP", ".tiff": "TIFF"}.get(suffix, "JPEG")
    path.write_bytes(encode(kind))
    assert find_images(tmp_path) == list_images(tmp_path) == [path]
    photo = read_uint8(path)
    assert photo.shape == PHOTO.shape
    write_uint8(path, photo)
    assert np.abs(read_uint8(path).astype(int) - photo).mean() < 8
