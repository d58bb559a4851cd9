"""Cached images are the files' pixels, and what is half-made or outdated is never used."""

import errno
import logging
import os
import pickle
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from realsr.core.errors import UserError
from realsr.data.cache import (
    DecodedImages,
    PairImages,
    cache_images,
    cache_pairs,
    decode_pairs,
    open_cache,
)
from realsr.data.pairs import Pair, list_pairs
from realsr.imaging import ImageError, list_images, read_uint8, write_uint8

MakePairs = Callable[..., Path]
SIZES = {"a": (12, 17), "b": (9, 8), "c": (8, 8)}
READ = "realsr.data.cache.read_uint8"


@pytest.fixture
def pairs(make_pairs: MakePairs) -> list[Pair]:
    return list_pairs(make_pairs(SIZES), 2)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are decoded, one after another."""
    paths: list[Path] = []
    monkeypatch.setattr(READ, lambda path: paths.append(path) or read_uint8(path))
    return paths


@pytest.fixture(params=[1, 1000])
def _with_and_without_workers(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("realsr.core.workers.MIN_ITEMS", request.param)


@pytest.mark.usefixtures("_with_and_without_workers")
def test_cached_images_are_those_of_the_files(pairs: list[Pair], tmp_path: Path) -> None:
    images = cache_pairs(tmp_path / "cache", pairs)
    assert len(images) == 3
    for index, pair in enumerate(pairs):
        for image, decoded, file in zip(
            images[index], decode_pairs(pairs)[index], (pair.lr, pair.hr), strict=True
        ):
            assert image.dtype == np.uint8
            assert np.array_equal(image, read_uint8(file))
            assert np.array_equal(decoded, image)
            assert not image.flags.writeable
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["pairs.u8"]


def test_it_is_made_once_and_holds_for_fewer_pairs(
    pairs: list[Pair], tmp_path: Path, reads: list[Path]
) -> None:
    cache_pairs(tmp_path, pairs)
    assert len(reads) == 6
    images = cache_pairs(tmp_path, pairs[::-2])
    assert len(reads) == 6
    assert np.array_equal(images[0][1], read_uint8(pairs[2].hr))
    assert np.array_equal(images[1][0], read_uint8(pairs[0].lr))


@pytest.mark.parametrize("change", ["pixels", "time", "another"])
def test_it_is_made_again_when_an_image_changes(
    change: str,
    pairs: list[Pair],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    make_pairs: MakePairs,
) -> None:
    old = cache_pairs(tmp_path, pairs)
    if change == "pixels":
        write_uint8(pairs[1].hr, np.full((18, 16, 3), 7, np.uint8))
    elif change == "time":
        os.utime(pairs[1].hr, ns=(0, 0))
    else:
        pairs = [*pairs, *list_pairs(make_pairs({"d": (30, 8)}, folder="more"), 2)]
    with caplog.at_level(logging.INFO):
        images = cache_pairs(tmp_path, pairs)
    assert "rewriting the cache" in caplog.text
    for index, pair in enumerate(pairs):
        assert np.array_equal(images[index][1], read_uint8(pair.hr))
    with pytest.raises(
        UserError, match=r"pairs\.u8: another command has rewritten this cache.*cache_dir=FOLDER"
    ):
        old[0]


def test_a_file_that_is_not_whole_is_made_again(
    pairs: list[Pair], tmp_path: Path, reads: list[Path]
) -> None:
    cache_pairs(tmp_path, pairs)
    whole = (tmp_path / "pairs.u8").read_bytes()
    torn = [whole[:length] for length in (0, 1, 500, len(whole) - 100, len(whole) - 1)]
    spoilt = whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:]  # in the index
    for content in [*torn, spoilt, whole[:-1] + b"9", b"no cache at all" * 99]:
        (tmp_path / "pairs.u8").write_bytes(content)
        (tmp_path / ".pairs.u8.realsr.tmp").write_bytes(content * 2)  # as a kill leaves it
        reads.clear()
        cache_pairs(tmp_path, pairs)
        assert len(reads) == 6
        assert (tmp_path / "pairs.u8").read_bytes() == whole
        assert not (tmp_path / ".pairs.u8.realsr.tmp").exists()


@pytest.mark.usefixtures("_with_and_without_workers")
def test_a_damaged_image_is_named_and_nothing_stays(pairs: list[Pair], tmp_path: Path) -> None:
    pairs[2].hr.write_bytes(pairs[2].hr.read_bytes()[:-200])
    with pytest.raises(ImageError, match=r"HR/c\.png is damaged or incomplete"):
        cache_pairs(tmp_path / "cache", pairs)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")]
)
def test_what_cuts_the_making_short_leaves_nothing(
    error: BaseException, pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> np.ndarray:
        if path == pairs[1].lr:
            raise error
        return read_uint8(path)

    monkeypatch.setattr(READ, fail)
    with pytest.raises((UserError, KeyboardInterrupt)) as raised:
        cache_pairs(tmp_path / "cache", pairs)
    if isinstance(error, OSError):
        assert "No space left on device): set cache_dir=FOLDER" in str(raised.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_full_disk_is_told_before_anything_is_decoded(
    pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: list[Path]
) -> None:
    needed = sum(5 * 3 * height * width for height, width in SIZES.values())
    for free in (needed, needed - 1):
        monkeypatch.setattr(
            "shutil.disk_usage",
            lambda folder, free=free: shutil._ntuple_diskusage(9999, 9999, free),
        )
        if free == needed:
            cache_pairs(tmp_path / "room", pairs)
            reads.clear()
            continue
        with pytest.raises(
            UserError, match=r"need 5.1e-06 GB, but only 5.1e-06 GB are free.*cache_dir=FOLDER"
        ):
            cache_pairs(tmp_path / "cache", pairs)
    assert reads == []
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told(pairs: list[Pair], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        UserError,
        match=r"file/cache/pairs\.u8 cannot be written \(Not a directory\): set cache_dir=",
    ):
        cache_pairs(tmp_path / "file" / "cache", pairs)
    if os.geteuid() == 0:
        pytest.skip("root may write to any folder")
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(UserError, match=r"cannot be written \(Permission denied\): set cache_dir="):
        cache_pairs(tmp_path / "locked", pairs)


def test_of_several_that_ask_at_once_one_makes_it(
    pairs: list[Pair], tmp_path: Path, reads: list[Path]
) -> None:
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda _: cache_pairs(tmp_path, pairs), range(4)))
    assert len(reads) == 6
    for images in made:
        assert np.array_equal(images[2][1], read_uint8(pairs[2].hr))
    assert [path.name for path in tmp_path.glob("*pairs.u8*")] == ["pairs.u8"]


def test_what_goes_to_another_process_has_no_pixels_in_it(
    make_pairs: MakePairs, tmp_path: Path
) -> None:
    pairs = list_pairs(make_pairs({"a": (100, 100)}), 2)
    for images in (cache_pairs(tmp_path, pairs), decode_pairs(pairs)):
        first = images[0][1]
        sent = pickle.dumps(images)
        assert len(sent) < 2000
        assert np.array_equal(pickle.loads(sent)[0][1], first)


def test_a_turned_photo_is_cached_as_it_is_read(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # turned by 90 degrees
    pixels = np.random.default_rng(0).integers(0, 256, (16, 32, 3), dtype=np.uint8)
    (tmp_path / "photos").mkdir()
    for name, options in (("1.jpg", {"exif": exif}), ("2.jpg", {})):
        Image.fromarray(pixels).save(tmp_path / "photos" / name, **options)
    paths = list_images(tmp_path / "photos")
    images = cache_images(tmp_path / "photos.u8", paths)
    assert [image.shape for image in images] == [(32, 16, 3), (16, 32, 3)]
    for image, path in zip(images, paths, strict=True):
        assert np.array_equal(image, read_uint8(path))
    assert open_cache(tmp_path / "photos.u8", [*paths, *paths]) is not None


def test_decoded_images_are_kept_within_their_budget(pairs: list[Pair], reads: list[Path]) -> None:
    one_pair = 8 * 8 * 3 * 5  # bytes of the smallest
    for budget, files in ((0, 24), (one_pair, 18), (2**30, 6)):
        reads.clear()
        paths = [path for pair in pairs[::-1] for path in (pair.lr, pair.hr)]
        images = PairImages(DecodedImages(paths, budget))
        for number in range(12):
            assert np.array_equal(images[number % 3][0], read_uint8(pairs[::-1][number % 3].lr))
        assert len(reads) == files
    with pytest.raises(ImageError, match=r"missing\.png"):
        DecodedImages([Path("missing.png")])[0]


def test_a_cache_that_has_lost_pixels_is_made_again(
    make_pairs: MakePairs, tmp_path: Path, reads: list[Path]
) -> None:
    pairs = list_pairs(make_pairs({"a": (200, 200), "b": (200, 200)}), 2)
    cache_pairs(tmp_path, pairs)
    file = tmp_path / "pairs.u8"
    whole, status = file.read_bytes(), file.stat()
    for start, stop in ((0, 4096), (200_000, 260_000), (500_000, 600_000)):
        file.write_bytes(whole[:start] + bytes(stop - start) + whole[stop:])
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        reads.clear()
        cache_pairs(tmp_path, pairs)
        assert len(reads) == 4
        assert file.read_bytes() == whole
    reads.clear()
    cache_pairs(tmp_path, pairs)
    assert not reads
