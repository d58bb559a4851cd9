"""Parts of a deflate stream, blocks in threads, and the filter of PNG."""

import hashlib
import importlib.util
import io
import struct
import sys
import zlib

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from realsr.imaging import (
    Layout,
    Metadata,
    encode_zlib_png,
    open_photo_writer,
    read_uint8,
    write_uint8,
)
from realsr.imaging.row_encoders import (
    OrderedThreads,
    PngEncoder,
    append_adler,
    average,
    deflate_part,
)


def waves(height: int, width: int, dtype: type = np.uint8) -> np.ndarray:
    """Integer arithmetic only, so that the samples are the same on every machine: (H, W, 3)."""
    y, x, c = np.mgrid[:height, :width, :3]
    top = np.iinfo(dtype).max
    return ((x * x // 40 + y * (3 + c) + (x * y * 7919) % 13) % (top + 1)).astype(dtype)


@pytest.mark.parametrize("sizes", [(1,), (0, 5), (70000, 3, 10**6), (5552, 5552)])
def test_parts_form_one_stream_with_its_checksum(sizes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    parts = [rng.integers(200, 256, size, np.uint8).tobytes() for size in sizes]
    stream, checksum = b"\x78\x01", 1
    for part in parts:
        stream += deflate_part(part, part is parts[-1])
        checksum = append_adler(checksum, zlib.adler32(part), len(part))
    whole = b"".join(parts)
    assert checksum == zlib.adler32(whole)
    assert zlib.decompress(stream + checksum.to_bytes(4, "big")) == whole


def test_noise_grows_by_less_than_a_hundredth() -> None:
    noise = np.random.default_rng(0).bytes(10**6)
    assert len(deflate_part(noise, True)) < 1.01 * len(noise)  # the limit of BigTIFF counts on it


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_number_of_threads_changes_no_byte(tmp_path, suffix: str, dtype: type) -> None:
    samples, files, before = waves(700, 900, dtype), [], torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            path = tmp_path / f"{threads}{suffix}"
            with open_photo_writer(path, Layout.of(samples)) as writer:
                band = samples[:650].copy()
                writer.write(band)
                band[:] = 0  # a caller may use its array again
                writer.write(samples[650:])
            files.append(path.read_bytes())
    finally:
        torch.set_num_threads(before)
    assert files[0] == files[1] == files[2]


def test_an_error_in_a_thread_is_raised(monkeypatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    results = list[int]()
    threads = OrderedThreads(results.append)
    for number in (1, 2, 0):
        threads.submit(lambda number: 6 // number, number)
    with pytest.raises(ZeroDivisionError):
        threads.finish()
    assert results == [6, 3]


def test_the_bytes_are_those_of_earlier_versions() -> None:
    if "zlib-ng" in zlib.ZLIB_RUNTIME_VERSION:
        pytest.skip("this Python has zlib-ng, which compresses to other bytes than zlib")
    sha256 = hashlib.sha256(encode_zlib_png(waves(300, 700))).hexdigest()
    assert sha256 == "43babbb82f7a8b8f269a700dd5707945e4859b45f614eaa781a662739bf62ed1"


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_without_isal_zlib_writes_the_same_pixels(monkeypatch, tmp_path, suffix: str) -> None:
    samples = waves(300, 700)
    write_uint8(tmp_path / f"isal{suffix}", samples)
    monkeypatch.setitem(sys.modules, "isal", None)
    plain = importlib.util.module_from_spec(importlib.util.find_spec("realsr.imaging.row_encoders"))
    plain.__spec__.loader.exec_module(plain)
    monkeypatch.setattr("realsr.imaging.row_encoders.isal_zlib", plain.isal_zlib)
    write_uint8(tmp_path / f"zlib{suffix}", samples)
    files = [tmp_path / f"{library}{suffix}" for library in ("isal", "zlib")]
    assert files[0].read_bytes() != files[1].read_bytes()
    for path in files:
        np.testing.assert_array_equal(read_uint8(path), samples)


def encode(samples: np.ndarray) -> bytes:
    with io.BytesIO() as file:
        encoder = PngEncoder(file, Layout.of(samples), Metadata())
        for top in range(0, len(samples), encoder.rows):
            encoder.write(samples[top : top + encoder.rows])
        encoder.finish()
        return file.getvalue()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (64, 33)])
def test_8_bit_samples_come_back_from_pillow(shape, channels):
    samples = np.random.default_rng(0).integers(0, 256, (*shape, channels), dtype=np.uint8)
    with Image.open(io.BytesIO(encode(samples))) as image:
        assert image.mode == {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
        np.testing.assert_array_equal(np.asarray(image).reshape(samples.shape), samples)


def test_a_view_and_16_bits_are_written_as_they_are():
    whole = np.random.default_rng(0).integers(0, 65536, (20, 30, 3), dtype=np.uint16)
    view = whole[3:11:2, 5:25]
    decoded = cv2.imdecode(np.frombuffer(encode(view), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(decoded[..., ::-1], view)
    view = (whole // 257).astype(np.uint8)[3:11:2, 5:25]
    decoded = cv2.imdecode(np.frombuffer(encode(view), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(decoded[..., ::-1], view)


@pytest.mark.parametrize("step", [1, 3, 8])
@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (5, 40), (2, 70000)])
def test_the_filter_is_that_of_the_specification(shape, step):
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (shape[0], shape[1] * step), np.uint8)
    above = rng.integers(0, 256, rows.shape[1], np.uint8)
    filtered = average(rows, above, step)
    assert (filtered[:, 0] == 3).all()
    for row, column in {
        (int(r), int(c))
        for r, c in zip(*np.divmod(rng.permutation(rows.size)[:2000], rows.shape[1]), strict=True)
    }:
        up = int(rows[row - 1, column] if row else above[column])
        left = int(rows[row, column - step]) if column >= step else 0
        assert filtered[row, column + 1] == (int(rows[row, column]) - (left + up) // 2) % 256


def test_all_rows_have_the_filter_average():
    noise = np.random.default_rng(0).integers(0, 256, (300, 2000, 3), np.uint8)  # several blocks
    data, parts, position = encode(noise), b"", 8
    while position < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        parts += data[position + 8 : position + 8 + length] if kind == b"IDAT" else b""
        position += 12 + length
    filtered = average(noise.reshape(300, -1), np.zeros(6000, np.uint8), 3)
    assert zlib.decompress(parts) == filtered.tobytes()
