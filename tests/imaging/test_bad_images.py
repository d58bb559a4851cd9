"""Files that claim what they do not hold, and the smallest and thinnest that are images."""

import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from realsr.imaging import ImageError, formats, read_photo, write_photo
from realsr.imaging.photo import Metadata, Photo

SIDE = 100_000


def png(width: int, height: int, bits: int, colour: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100_000))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in chunks)


def saved(kind: str, **options) -> bytearray:
    with io.BytesIO() as file:
        Image.new("RGB", (64, 64)).save(file, kind, **options)
        return bytearray(file.getvalue())


def tiff() -> bytes:
    data = saved("TIFF", compression="tiff_adobe_deflate")
    start = struct.unpack_from("<I", data, 4)[0]
    for entry in range(start + 2, start + 2 + 12 * struct.unpack_from("<H", data, start)[0], 12):
        if struct.unpack_from("<H", data, entry)[0] in (256, 257, 278):
            struct.pack_into("<HII", data, entry + 2, 4, 1, SIDE)
    return bytes(data)


def bmp() -> bytes:
    data = saved("BMP")
    struct.pack_into("<ii", data, 18, SIDE, SIDE)
    return bytes(data)


def jpeg() -> bytes:
    data = saved("JPEG")
    struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, 65000, 65000)
    return bytes(data)


BOMBS = {
    "rgb.png": png(SIDE, SIDE, 8, 2),
    "deep.png": png(SIDE, SIDE, 16, 6),
    "gray.png": png(SIDE, SIDE, 8, 0),
    "black.png": png(2**31 - 1, 2**31 - 1, 1, 0),
    "a.tif": tiff(),
    "a.bmp": bmp(),
    "a.jpg": jpeg(),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_size_that_is_only_claimed_takes_no_memory(tmp_path, name, monkeypatch):
    monkeypatch.setattr(formats, "machine_memory", lambda: 8 * 2**30)
    (tmp_path / name).write_bytes(BOMBS[name])
    tracemalloc.start()
    with pytest.raises(ImageError, match=name):
        read_photo(tmp_path / name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


def test_an_image_larger_than_the_memory_is_refused(tmp_path, monkeypatch):
    Image.new("RGB", (300, 200)).save(tmp_path / "a.bmp")
    monkeypatch.setattr(formats, "machine_memory", lambda: 4 * 300 * 200)
    assert read_photo(tmp_path / "a.bmp").samples.shape == (200, 300, 3)
    monkeypatch.setattr(formats, "machine_memory", lambda: 4 * 300 * 200 - 1)
    with pytest.raises(ImageError, match=r"a\.bmp declares 300x200 pixels.*memory"):
        read_photo(tmp_path / "a.bmp")


def test_a_png_that_is_too_long_is_refused(tmp_path):
    write_photo(tmp_path / "a.png", Photo(np.zeros((1, 10**6 + 1, 1), np.uint8), Metadata()))
    with pytest.raises(
        ImageError, match=r"a\.png holds a PNG with a side of more than 1000000 pixels.*Save it as"
    ):
        read_photo(tmp_path / "a.png")


def test_a_png_that_is_all_one_colour_is_no_bomb(tmp_path):
    for mode in ("1", "L", "RGB"):
        Image.new(mode, (4000, 3000)).save(tmp_path / "a.png", compress_level=9)
        assert read_photo(tmp_path / "a.png").samples.shape[:2] == (3000, 4000)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".bmp"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 16000), (16000, 1), (1, 20000), (20000, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_smallest_and_the_thinnest(tmp_path, suffix, shape, channels):
    samples = np.random.default_rng(0).integers(0, 256, (*shape, channels), np.uint8)
    if suffix == ".webp" and max(shape) > 16383:
        with pytest.raises(ImageError, match="16383"):
            write_photo(tmp_path / f"a{suffix}", Photo(samples, Metadata()))
        return
    write_photo(tmp_path / f"a{suffix}", Photo(samples, Metadata()))
    again = read_photo(tmp_path / f"a{suffix}").samples
    assert again.shape[:2] == shape
    if suffix != ".jpg":
        np.testing.assert_array_equal(again, np.broadcast_to(samples, again.shape))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # it warns before it fails
def test_zero_bytes_and_half_a_strip(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(ImageError, match="0 bytes"):
        read_photo(tmp_path / "a.png")
    noise = np.random.default_rng(0).integers(0, 256, (200, 100, 3), np.uint8)
    for suffix in (".png", ".jpg", ".tif", ".webp", ".bmp"):
        path = tmp_path / f"cut{suffix}"
        write_photo(path, Photo(noise, Metadata()))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(ImageError, match=f"cut{suffix}"):
            read_photo(path)


def test_a_png_that_declares_more_than_its_bytes_can_hold_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("realsr.imaging.png.check_size", lambda *arguments: None)
    monkeypatch.setattr("imagecodecs.png_decode", None)
    (tmp_path / "a.png").write_bytes(png(20_000, 20_000, 8, 2))
    with pytest.raises(
        ImageError, match=r"a\.png declares 20000x20000 pixels, more than its \d+ bytes can hold"
    ):
        read_photo(tmp_path / "a.png")
