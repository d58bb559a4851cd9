import io
import struct
import threading
import warnings
import zlib
from pathlib import Path

import cv2
import file_writers as w
import numpy as np
import pytest
import tifffile
from PIL import Image

from realsr.imaging import ImageError, read_photo, read_uint8

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
GRAY_16 = RNG.integers(0, 65536, (6, 9), dtype=np.uint16)


def save(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


def png_16(colour_type: int, samples: np.ndarray, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG written independently of the package: filter 0, big-endian."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], 16, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in chunks)


def turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """How an image stored with an EXIF orientation is meant to be seen (TIFF 6.0, tag 274)."""
    views = {
        1: image,
        2: np.fliplr(image),
        3: np.rot90(image, 2),
        4: np.flipud(image),
        5: image.swapaxes(0, 1),
        6: np.rot90(image, -1),
        7: np.rot90(image, 2).swapaxes(0, 1),
        8: np.rot90(image, 1),
    }
    return views[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
def test_orientation_is_applied(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    blocks = np.kron(RNG.integers(0, 256, (2, 3, 1), dtype=np.uint8), np.ones((8, 8, 3), np.uint8))
    path = save(
        tmp_path / f"a{suffix}", Image.fromarray(blocks), exif=exif, lossless=True, quality=100
    )
    expected = turned(blocks, orientation)
    assert read_uint8(path).shape == expected.shape
    assert np.abs(read_uint8(path).astype(int) - expected).max() <= 3  # JPEG
    assert read_photo(path).samples.shape[:2] == expected.shape[:2]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_orientation_is_applied_to_16_bit(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    samples = read_photo(save(tmp_path / f"a{suffix}", Image.fromarray(GRAY_16), exif=exif)).samples
    assert samples.dtype == np.uint16
    np.testing.assert_array_equal(samples, turned(GRAY_16, orientation)[..., None])


def test_broken_exif_says_nothing_about_the_pixels(tmp_path):
    path = save(tmp_path / "a.png", Image.fromarray(RGB), exif=b"Exif\0\0nonsense")
    np.testing.assert_array_equal(read_uint8(path), RGB)


@pytest.mark.parametrize(
    ("mode", "channels"), [("1", 1), ("L", 1), ("LA", 2), ("P", 3), ("RGB", 3), ("RGBA", 4)]
)
def test_png_modes(tmp_path, mode, channels):
    source = Image.fromarray(RGB).convert("L" if mode == "LA" else mode)
    opacity = RNG.integers(0, 256, (6, 9), dtype=np.uint8)
    if mode == "LA":
        source = Image.merge("LA", [source, Image.fromarray(opacity)])
    if mode == "RGBA":
        source.putalpha(Image.fromarray(opacity))
    path = save(tmp_path / "a.png", source)
    samples, expected = read_photo(path).samples, np.asarray(source.convert("RGB"))
    assert (samples.shape[2], samples.dtype) == (channels, np.uint8)
    np.testing.assert_array_equal(
        np.broadcast_to(samples[..., : 3 if channels > 2 else 1], (6, 9, 3)), expected
    )
    np.testing.assert_array_equal(read_uint8(path), expected)
    if channels in (2, 4):
        np.testing.assert_array_equal(samples[..., -1], opacity)


def test_transparent_colours_become_alpha(tmp_path):
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putpixel((1, 0), 1)
    colours = read_photo(save(tmp_path / "p.png", palette, transparency=1)).samples
    assert colours.tolist() == [[[10, 20, 30, 255], [200, 100, 50, 0]]]

    gray = read_photo(save(tmp_path / "g.png", Image.new("L", (1, 1), 7), transparency=7)).samples
    assert gray.tolist() == [[[7, 0]]]

    value = int(GRAY_16[2, 3])
    (tmp_path / "g16.png").write_bytes(png_16(0, GRAY_16, (b"tRNS", struct.pack(">H", value))))
    deep = read_photo(tmp_path / "g16.png").samples
    np.testing.assert_array_equal(
        deep, np.stack([GRAY_16, np.where(value == GRAY_16, 0, 65535)], 2)
    )


def test_cmyk_jpeg(tmp_path):
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert (
        np.abs(read_uint8(save(tmp_path / "a.jpg", image))[8, 8].astype(int) - (255, 0, 0)).max()
        <= 4
    )


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (4, 2), (2, 3), (6, 4)])
def test_16_bit_png_keeps_every_bit(tmp_path, colour_type, channels):
    samples = RNG.integers(0, 65536, (5, 7, channels), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(png_16(colour_type, samples))
    np.testing.assert_array_equal(read_photo(tmp_path / "a.png").samples, samples)
    colour = samples[..., :3] if channels > 2 else samples[..., [0, 0, 0]]
    np.testing.assert_array_equal(read_uint8(tmp_path / "a.png"), np.rint(colour / 257.0))


@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_tiff_of_another_writer(tmp_path, channels):
    samples = RNG.integers(0, 65536, (5, 7, channels), dtype=np.uint16)
    (tmp_path / "a.tif").write_bytes(
        cv2.imencode(".tif", samples[..., [2, 1, 0, 3][:channels]])[1].tobytes()
    )
    np.testing.assert_array_equal(read_photo(tmp_path / "a.tif").samples[..., :3], samples[..., :3])


def test_premultiplied_white_is_zero_and_refused_16_bit_tiffs(tmp_path):
    path = tmp_path / "a.tif"
    rgba = np.array([[[1000, 2000, 3000, 32768], [500, 600, 700, 65535], [0, 0, 0, 0]]], np.uint16)
    tifffile.imwrite(path, rgba, photometric="rgb", extrasamples=["assocalpha"])
    straight = np.rint(rgba[0, 0, :3] * (65535 / 32768)).tolist()
    assert read_photo(path).samples[0, :, :3].tolist() == [straight, [500, 600, 700], [0, 0, 0]]
    tifffile.imwrite(path, rgba, photometric="rgb", extrasamples=["unspecified"])
    assert read_photo(path).samples.shape[2] == 3

    tifffile.imwrite(path, GRAY_16, photometric="miniswhite")
    np.testing.assert_array_equal(read_photo(path).samples[..., 0], 65535 - GRAY_16)

    for samples, photometric, content in [
        (rgba, "separated", "16-bit CMYK colour"),
        (GRAY_16.view(np.int16), "minisblack", "signed samples"),
        (np.zeros((6, 9), np.float32), "minisblack", "floating-point samples"),
    ]:
        tifffile.imwrite(path, samples, photometric=photometric)
        with pytest.raises(
            ImageError, match=rf"a\.tif holds {content}, which realsr does not read\. Save it"
        ):
            read_photo(path)


@pytest.mark.parametrize("codec", [w.NONE, w.LZW, w.DEFLATE, w.PACKBITS, w.LZMA, w.ZSTD])
def test_a_last_strip_with_surplus_rows_is_read(tmp_path, codec):
    """Some programs write all strips of one height."""
    samples = RNG.integers(0, 256, (21, 9, 3), dtype=np.uint8)
    page = w.tiff_page(samples, 8, 2, compression=codec, t257=(w.LONG, [17]))
    (tmp_path / "a.tif").write_bytes(w.tiff(page))
    np.testing.assert_array_equal(read_uint8(tmp_path / "a.tif"), samples[:17])


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # it warns before it fails
@pytest.mark.parametrize("read", [read_photo, read_uint8])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".bmp"])
@pytest.mark.parametrize("part", [0.0, 0.001, 0.5, 0.9, "end"])
def test_truncated_files_are_errors_that_name_the_file(tmp_path, suffix, part, read):
    photo = Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    path = save(tmp_path / f"cut{suffix}", photo)
    data = path.read_bytes()
    path.write_bytes(data[:-12] if part == "end" else data[: int(len(data) * part)])
    with pytest.raises(ImageError, match=f"cut{suffix}"):
        read(path)


def test_a_jpeg_with_further_pictures_gives_the_first(tmp_path):
    # Phones append depth maps and previews this way ("MPO").
    first, second = (Image.new("RGB", (16, 16), (level, level, level)) for level in (40, 200))
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second])
    assert np.abs(read_uint8(tmp_path / "a.jpg").astype(int) - 40).max() <= 1


def test_wrong_checksum_is_an_error(tmp_path):
    path = save(tmp_path / "a.png", Image.fromarray(RGB))
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    with pytest.raises(ImageError, match="damaged"):
        read_uint8(path)


def test_other_things_named_like_images(tmp_path):
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(ImageError, match=r"text\.png is not a supported image"):
        read_uint8(tmp_path / "text.png")
    (tmp_path / "folder.png").mkdir()
    for name in ("folder.png", "missing.png"):
        with pytest.raises(ImageError, match=f"{name} cannot be read"):
            read_photo(tmp_path / name)


def test_the_pixel_limit_is_lifted_only_for_us(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", Image.fromarray(RGB))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        threads = [threading.Thread(target=read_uint8, args=(path,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert read_uint8(path).shape == RGB.shape
    assert Image.MAX_IMAGE_PIXELS == 4
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(path.read_bytes()))
