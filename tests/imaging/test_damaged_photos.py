"""Damage that Pillow does not tell of is an error, or is accepted; oddities of sound photos are neither."""

import io
import logging
import struct
import zlib

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from realsr.imaging import ImageError, Metadata, Photo, read_photo, read_uint8, write_photo

END = b"\xff\xd9"


def picture(height: int = 150, width: int = 201) -> np.ndarray:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    shading = (128 + 60 * np.sin(x / 9) + 50 * np.cos(y / 7))[..., None]
    return (shading + rng.normal(0, 12, (height, width, 3))).clip(0, 255).astype(np.uint8)


def saved(kind: str, mode: str = "RGB", **options) -> bytes:
    with io.BytesIO() as file:
        Image.fromarray(picture()).convert(mode).save(file, kind, **options)
        return file.getvalue()


def damage_middle(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(300) + data[middle + 300 :]


JPEGS = {
    "4:4:4": saved("JPEG", subsampling=0),
    "4:2:2": saved("JPEG", subsampling=1),
    "4:2:0": saved("JPEG", subsampling=2),
    "4:4:0": simplejpeg.encode_jpeg(picture(), 90, colorsubsampling="440"),
    "progressive": saved("JPEG", progressive=True),
    "restart markers": saved("JPEG", restart_marker_rows=1),
    "gray": saved("JPEG", "L"),
    "coded as RGB": saved("JPEG", keep_rgb=True),
    "CMYK": saved("JPEG", "CMYK"),
}
BASE = JPEGS["4:2:0"]
TABLES = BASE.index(b"\xff\xdb")
ICC = saved("JPEG", icc_profile=bytes(70000))
SOUND = {
    "a preview after the end": BASE + JPEGS["4:4:4"],
    "a film after the end": BASE + b"\0\0\0\x18ftypmp42" + np.random.default_rng(0).bytes(3000),
    "zeros after the end": BASE + bytes(4096),
    "zeros before the end": BASE[:-2] + bytes(500) + END,
    "fill bytes before the end": BASE[:-2] + b"\xff" * 50 + END,
    "bytes between segments": BASE[:TABLES] + b"\0\xe1\0\4abcd" + BASE[TABLES:],
    "JFIF 2.01": BASE.replace(b"JFIF\0\1", b"JFIF\0\2", 1),
    "a broken profile": ICC.replace(b"ICC_PROFILE\0\1", b"ICC_PROFILE\0\7", 1),
    "several at once": BASE[:TABLES] + b"abc" + BASE[TABLES:-2] + bytes(99) + END + b"more",
}


def pillow_samples(data: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    return np.asarray(image.convert("RGB") if image.mode == "CMYK" else image).reshape(
        *image.size[::-1], -1
    )


@pytest.mark.parametrize("name", [*JPEGS, *SOUND])
def test_a_sound_jpeg_has_pillow_s_samples(tmp_path, name, caplog):
    data = (JPEGS | SOUND)[name]
    (tmp_path / "a.jpg").write_bytes(data)
    np.testing.assert_array_equal(read_photo(tmp_path / "a.jpg").samples, pillow_samples(data))
    assert "damaged" not in caplog.text


@pytest.mark.parametrize("name", JPEGS)
def test_a_damaged_jpeg_is_refused_or_accepted_with_a_line(tmp_path, name, caplog):
    path = tmp_path / "a.jpg"
    path.write_bytes(damage_middle(JPEGS[name]))
    with pytest.raises(
        ImageError, match=r"a\.jpg: damaged \(its compressed data are corrupt\).*damaged=accept"
    ):
        read_uint8(path)
    assert not caplog.records
    whole, part = pillow_samples(JPEGS[name]), read_photo(path, "accept")
    assert part.damage is not None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert str(path) in caplog.text
    assert part.damage in caplog.text
    difference = np.abs(part.samples[:32].astype(int) - whole[:32])
    assert (
        difference.mean() < 10 if name == "progressive" else difference.max() == 0
    )  # there every scan is of all rows
    assert (part.samples != whole).any()


def test_what_a_jpeg_that_ends_early_has_is_accepted(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(BASE[: len(BASE) // 2])
    with pytest.raises(ImageError, match=r"damaged \(it ends early\)"):
        read_uint8(path)
    np.testing.assert_array_equal(read_uint8(path, "accept")[:48], pillow_samples(BASE)[:48])


def test_other_bytes_than_zeros_before_the_end_are_no_padding(tmp_path):
    (tmp_path / "a.jpg").write_bytes(BASE[:-2] + bytes(200) + b"abc" + END)
    with pytest.raises(ImageError, match="its compressed data are corrupt"):
        read_uint8(tmp_path / "a.jpg")


@pytest.mark.parametrize("bits", [8, 16])
def test_the_checksums_of_deflate_in_tiff_are_looked_at(tmp_path, bits):
    path = tmp_path / "a.tif"
    samples = picture() if bits == 8 else picture().astype(np.uint16) * 257
    write_photo(path, Photo(samples, Metadata()))
    data = bytearray(path.read_bytes())
    # A strip whose data go on after its last pixel: the decoder stops there and never comes to the checksum.
    start, size = (Image.open(path).tag_v2[tag][1] for tag in (273, 279))
    strip = zlib.decompress(data[start : start + size])
    longer = zlib.compress(strip + bytes(1000), 9)[:-4] + bytes(4)
    for old, new in ((start, len(data)), (size, len(longer))):
        struct.pack_into("<I", data, data.index(struct.pack("<I", old)), new)
    path.write_bytes(data + longer)
    with pytest.raises(ImageError, match=r"a\.tif: damaged \(strip 1: wrong checksum"):
        read_uint8(path)
    np.testing.assert_array_equal(read_photo(path, "accept").samples, samples)


def test_jpeg_in_tiff_is_judged_too(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(saved("TIFF", compression="jpeg", quality=90))
    assert read_uint8(path).shape == (150, 201, 3)
    path.write_bytes(damage_middle(path.read_bytes()))
    with pytest.raises(
        ImageError, match=r"a\.tif: damaged \(strip \d: its compressed data are corrupt"
    ):
        read_uint8(path)
    assert read_uint8(path, "accept").shape == (150, 201, 3)


def spoil_checksum(data: bytes, kind: bytes) -> bytes:
    at = data.index(kind)
    end = at + 4 + struct.unpack_from(">I", data, at - 4)[0]
    return data[:end] + bytes([data[end] ^ 1]) + data[end + 1 :]


def test_a_png_s_checksums_matter_where_pixels_depend_on_them(tmp_path, caplog):
    path = tmp_path / "a.png"
    whole = saved("PNG", "P", icc_profile=b"a profile", transparency=bytes(range(256)))
    path.write_bytes(spoil_checksum(whole, b"iCCP"))
    photo = read_photo(path)
    assert photo.metadata.icc is None
    assert f"{path}: left out: damaged colour profile" in caplog.text
    np.testing.assert_array_equal(
        photo.samples, np.asarray(Image.open(io.BytesIO(whole)).convert("RGBA"))
    )
    for kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT"):
        path.write_bytes(spoil_checksum(whole, kind))
        with pytest.raises(
            ImageError,
            match=rf"a\.png is damaged or incomplete: wrong checksum of its chunk {kind.decode()}\. Copy",
        ):
            read_photo(path, "accept")
    path.write_bytes(whole[:-12])
    with pytest.raises(ImageError, match=r"a\.png.*ends before its end"):
        read_photo(path, "accept")
