"""Writing by rows: the same file however the rows come, and nothing left of a file that was not completed."""

import io
import sys
import tracemalloc
from itertools import product

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from realsr.imaging import (
    ImageError,
    Layout,
    Metadata,
    check_format,
    open_photo_writer,
    read_photo,
    row_encoders,
)

HOLDS = {  # (channels, bits) of each format
    ".png": [*product([1, 2, 3, 4], [8, 16])],
    ".tif": [*product([1, 2, 3, 4], [8, 16])],
    ".webp": [*product([1, 2, 3, 4], [8])],
    ".jpg": [*product([1, 3], [8])],
    ".bmp": [*product([1, 3], [8])],
}
CASES = [(suffix, *form) for suffix, forms in HOLDS.items() for form in forms]


def smooth(height: int, width: int, channels: int, bits: int) -> np.ndarray:
    """Waves with some noise: (H, W, C) uint8 or uint16."""
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / (7 + c) + columns / (11 - c)) for c in range(channels)]
    noise = np.random.default_rng(0).normal(0, 0.02, (height, width, channels))
    top = 2**bits - 1
    return ((np.stack(waves, 2) * 0.4 + 0.5 + noise).clip(0, 1) * top).astype(
        np.uint8 if bits == 8 else np.uint16
    )


def write(path, samples: np.ndarray, *heights: int) -> bytes:
    """Write in bands of these heights, then the rest; return the file's contents."""
    with open_photo_writer(path, Layout.of(samples)) as writer:
        top = 0
        for height in heights:
            writer.write(samples[top : top + height])
            top += height
        writer.write(samples[top:])
    return path.read_bytes()


@pytest.mark.parametrize(("suffix", "channels", "bits"), CASES)
def test_bands_of_any_height_give_the_file_of_the_whole(tmp_path, suffix, channels, bits):
    samples = smooth(203, 45, channels, bits)
    whole = write(tmp_path / f"a{suffix}", samples)
    assert write(tmp_path / f"a{suffix}", samples, 1, 3, 60, 0, 70) == whole
    assert write(tmp_path / f"a{suffix}", samples[::-1][::-1], *[1] * 202) == whole
    again = read_photo(tmp_path / f"a{suffix}").samples
    if suffix == ".webp":
        samples = samples[..., {1: [0, 0, 0], 2: [0, 0, 0, 1]}.get(channels, range(channels))]
    if suffix == ".jpg":
        assert np.abs(again.astype(int) - samples).mean() < 4
    else:
        np.testing.assert_array_equal(again, samples)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(1, 1), (33, 17), (64, 8), (300, 45), (9, 1000)])
def test_a_jpeg_of_strips_has_the_pixels_of_one_compressed_at_once(tmp_path, shape, channels):
    samples = smooth(*shape, channels, 8)
    data = write(tmp_path / "a.jpg", samples)
    with io.BytesIO() as file:
        image = Image.fromarray(samples[..., 0] if channels == 1 else samples)
        image.save(file, "JPEG", quality=95, subsampling="4:4:4")
        whole = file.getvalue()
    flags = cv2.IMREAD_UNCHANGED
    for decode in (
        lambda data: np.asarray(Image.open(io.BytesIO(data))),
        lambda data: cv2.imdecode(np.frombuffer(data, np.uint8), flags),
    ):
        np.testing.assert_array_equal(decode(data), decode(whole))
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == shape[::-1]


def test_the_widest_jpeg_has_restart_markers_that_fit(tmp_path):
    samples = smooth(40, 65500, 1, 8)
    write(tmp_path / "a.jpg", samples)
    assert np.abs(read_photo(tmp_path / "a.jpg").samples.astype(int) - samples).mean() < 4


@pytest.mark.parametrize(
    ("suffix", "channels", "bits"), [case for case in CASES if case[0] in (".png", ".tif", ".bmp")]
)
def test_other_readers_see_the_same(tmp_path, suffix, channels, bits):
    samples = smooth(70, 31, channels, bits)
    data = write(tmp_path / f"a{suffix}", samples)
    if (suffix, channels, bits) != (".tif", 2, 16):  # which Pillow does not read
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            assert bits == 16 or np.array_equal(np.asarray(image).reshape(samples.shape), samples)
    if channels != 2 and (suffix, channels, bits) != (
        ".tif",
        4,
        8,
    ):  # OpenCV has no gray + alpha, and multiplies by it
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED).reshape(
            samples.shape
        )
        np.testing.assert_array_equal(
            decoded[..., {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]], samples
        )
    if suffix == ".tif":
        np.testing.assert_array_equal(
            tifffile.imread(tmp_path / "a.tif").reshape(samples.shape), samples
        )


@pytest.mark.parametrize(("channels", "bits"), HOLDS[".tif"])
def test_a_tiff_that_could_pass_4_gib_is_a_bigtiff(tmp_path, monkeypatch, channels, bits):
    monkeypatch.setattr(row_encoders, "_LIMIT", 2**20)
    samples = smooth(130, 31, channels, bits)
    data = write(tmp_path / "a.tif", samples, 50)
    assert data[:4] == b"II+\0"
    np.testing.assert_array_equal(read_photo(tmp_path / "a.tif").samples, samples)
    if channels != 2:
        assert cv2.imread(tmp_path / "a.tif", cv2.IMREAD_UNCHANGED).dtype == samples.dtype


def test_which_tiffs_could_pass_4_gib():
    def big(*shape: int) -> bool:
        with io.BytesIO() as file:
            row_encoders.TiffEncoder(file, Layout(*shape), Metadata())
            return file.getvalue()[2:3] == b"+"

    assert not big(24000, 32000, 3, 8)
    assert big(24000, 32000, 3, 16)
    assert big(2**16, 2**16, 1, 8)


class Broken(Exception):
    pass


@pytest.mark.parametrize("suffix", HOLDS)
@pytest.mark.parametrize("failure", [Broken, KeyboardInterrupt, OSError])
def test_an_error_between_bands_leaves_the_old_file_and_nothing_else(tmp_path, suffix, failure):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"old")

    def write_and_fail() -> None:
        with open_photo_writer(path, Layout(100, 20, 3, 8)) as writer:
            writer.write(smooth(70, 20, 3, 8))
            assert len(list(tmp_path.iterdir())) == 2
            raise failure

    with pytest.raises(failure):
        write_and_fail()
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [(path.name, b"old")]


@pytest.mark.skipif(
    sys.platform != "linux", reason="a limit of the file's size stands for a full disk"
)
def test_a_full_disk_is_an_error_that_names_the_file(tmp_path):
    import resource

    path, limits = tmp_path / "a.png", resource.getrlimit(resource.RLIMIT_FSIZE)
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, limits[1]))
    try:
        with pytest.raises(ImageError, match=f"{path} cannot be written: File too large"):
            write(path, noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_missing_and_surplus_and_wrong_rows_are_refused(tmp_path):
    path = tmp_path / "a.png"
    band = smooth(10, 20, 3, 8)
    with (
        pytest.raises(ValueError, match="1 rows of the image are missing"),
        open_photo_writer(path, Layout(11, 20, 3, 8)) as writer,
    ):
        writer.write(band)
    with (
        pytest.raises(ValueError, match="10 rows, but the image has only 9 more"),
        open_photo_writer(path, Layout(9, 20, 3, 8)) as writer,
    ):
        writer.write(band)
    for wrong in (band[..., :1], band[:, :19], band.astype(np.uint16), band[0]):
        with (
            pytest.raises(ValueError, match="expected rows"),
            open_photo_writer(path, Layout(11, 20, 3, 8)) as writer,
        ):
            writer.write(wrong)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("suffix", "form", "reason"),
    [
        (".jpg", (10, 10, 4, 8), r"alpha.*write \.png"),
        (".BMP", (10, 10, 2, 8), r"alpha.*write \.png"),
        (".webp", (10, 10, 3, 16), r"16 bits.*write \.png"),
        (".webp", (10, 16384, 3, 8), r"16383.*write \.png"),
        (".jpeg", (65501, 10, 3, 8), r"65500.*write \.png"),
        (".png", (2**31, 1, 1, 8), r"2147483647.*write \.tif"),
        (".bmp", (40000, 40000, 3, 8), r"4 GiB.*write \.png"),
        (".png", (0, 10, 3, 8), "nothing to write"),
        (".gif", (10, 10, 3, 8), "not the suffix of a supported output format"),
    ],
)
def test_what_a_format_cannot_hold_is_said_before_any_work(tmp_path, suffix, form, reason):
    with pytest.raises(ImageError, match=reason):
        check_format(suffix, Layout(*form))
    entered = False
    with (
        pytest.raises(ImageError, match=f"a{suffix} cannot be written: .*{reason}"),
        open_photo_writer(tmp_path / f"a{suffix}", Layout(*form)),
    ):
        entered = True
    assert not entered
    assert list(tmp_path.iterdir()) == []


def test_a_48_megapixel_photo_times_4_may_be_written_as_anything_but_webp():
    for suffix in (".png", ".jpg", ".tif", ".bmp"):
        check_format(suffix, Layout(24000, 32000, 3, 8))
    with pytest.raises(ImageError):
        check_format(".webp", Layout(24000, 32000, 3, 8))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_the_memory_of_writing_is_that_of_some_rows(tmp_path, suffix):
    band = smooth(100, 1000, 3, 8)
    tracemalloc.start()
    with open_photo_writer(tmp_path / f"a{suffix}", Layout(3000, 1000, 3, 8)) as writer:
        for _ in range(30):
            writer.write(band)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000  # the samples are 9 MB
