import hashlib
import platform
import zlib

import numpy as np
import pytest
import torch

from realsr.imaging import encode_uint8, encode_zlib_png, open_photo_writer
from realsr.imaging.deflate import (
    OrderedThreads,
    append_adler,
    compressor_name,
    deflate_part,
    zlib_stream,
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
    assert zlib.decompress(zlib_stream(whole)) == whole


def test_noise_grows_by_less_than_a_hundredth() -> None:
    noise = np.random.default_rng(0).bytes(10**6)
    assert len(zlib_stream(noise)) < 1.01 * len(noise)  # the limit of BigTIFF counts on it


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_number_of_threads_changes_no_byte(tmp_path, suffix: str, dtype: type) -> None:
    samples, files, before = waves(700, 900, dtype), [], torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            path = tmp_path / f"{threads}{suffix}"
            with open_photo_writer(path, *samples.shape, 8 * samples.itemsize) as writer:
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


@pytest.mark.parametrize(
    ("encode", "compressor", "sha256"),
    [
        (
            lambda image: encode_uint8(image, ".png"),
            "isal x86_64",
            "aedc35c765fc5cce200d0bd376b196f051c625f597eab6583ec5161208135efb",
        ),
        (encode_zlib_png, None, "43babbb82f7a8b8f269a700dd5707945e4859b45f614eaa781a662739bf62ed1"),
    ],
)
def test_the_bytes_are_those_of_earlier_versions(encode, compressor, sha256) -> None:
    if compressor not in (None, compressor_name()):
        pytest.skip(f"the known bytes are those of {compressor}, not of {compressor_name()}")
    if compressor is None and "zlib-ng" in zlib.ZLIB_RUNTIME_VERSION:
        pytest.skip("this Python has zlib-ng, which compresses to other bytes than zlib")
    assert hashlib.sha256(encode(waves(300, 700))).hexdigest() == sha256


@pytest.mark.parametrize(("machine", "name"), [("AMD64", "isal x86_64"), ("arm64", "isal aarch64")])
def test_names_of_the_same_processor_are_the_same(monkeypatch, machine: str, name: str) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert compressor_name() == name
