"""JPEG by the tables of the source photos."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from realsr.core.errors import UserError
from realsr.data.cache import DecodedImages
from realsr.data.degradations.noise_jpeg import NoiseJPEG, compress_with
from realsr.data.pool_files import (
    JPEG_TABLES,
    JpegTables,
    find_tables,
    read_jpeg_tables,
    write_jpeg_tables,
)
from stages import collect_jpeg_tables

PHOTO = np.kron(np.random.default_rng(0).integers(0, 256, (4, 5, 3)), np.ones((8, 8, 1))).astype(
    np.uint8
)


def save(path: Path, quality: int, subsampling: str) -> np.ndarray:
    """Write the photo as JPEG and return its decoded pixels."""
    Image.fromarray(PHOTO).save(path, "JPEG", quality=quality, subsampling=subsampling)
    return np.asarray(Image.open(path))


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_a_photo_s_tables_compress_as_its_camera_did(subsampling: str, tmp_path: Path) -> None:
    decoded = save(tmp_path / "a.jpg", 63, subsampling)
    tables = find_tables(tmp_path / "a.jpg")
    assert tables is not None
    assert tables.subsampling == subsampling
    difference = np.abs(compress_with(tables, PHOTO).astype(int) - decoded)
    assert difference.max() <= 3, "libraries may round colour conversion apart"
    assert difference.mean() < 0.5


def test_tables_are_collected_with_their_numbers_and_recorded(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name, quality, subsampling in (("a", 60, "4:2:0"), ("b", 60, "4:2:0"), ("c", 90, "4:4:4")):
        save(source / f"{name}.jpg", quality, subsampling)
    Image.fromarray(PHOTO).save(source / "d.png")
    Image.fromarray(PHOTO).convert("L").save(source / "e.jpg")
    file = collect_jpeg_tables(source, tmp_path / "pool")
    tables = read_jpeg_tables(file)
    assert [(item.subsampling, item.photos) for item in tables] == [("4:2:0", 2), ("4:4:4", 1)]
    before = file.stat().st_mtime_ns
    collect_jpeg_tables(source, tmp_path / "pool")
    assert file.stat().st_mtime_ns == before, "finished work is not repeated"
    for name in "abc":
        (source / f"{name}.jpg").unlink()
    with pytest.raises(UserError, match=r"none of 2 photos is a colour JPEG.*jpeg=quality"):
        collect_jpeg_tables(source, tmp_path / "other")


def test_each_photo_s_tables_are_drawn_equally_often() -> None:
    flat, none = tuple([1] * 64), DecodedImages([])
    coarse = JpegTables(tuple([120] * 64), tuple([120] * 64), "4:2:0", photos=3)
    fine = JpegTables(flat, flat, "4:4:4", photos=1)
    degradation = NoiseJPEG((30, 95), "random", "source", none, [coarse, fine])
    results = [compress_with(tables, PHOTO).tobytes() for tables in (coarse, fine)]
    counts = [0, 0]
    for seed in range(400):
        lr = degradation.prepare(PHOTO, 0, 2, np.random.default_rng(seed))["lr"]
        counts[results.index(lr.tobytes())] += 1
    assert 260 < counts[0] < 340


def test_files_that_hold_no_tables_are_refused(tmp_path: Path) -> None:
    path, table = tmp_path / JPEG_TABLES, (1,) * 64
    tables = [JpegTables(table, table, "4:2:2", 7)]
    write_jpeg_tables(path, tables)
    assert read_jpeg_tables(path) == tables
    text = path.read_text()
    for wrong in ("[]", "{", text.replace("4:2:2", "4:1:0"), text.replace("[1,", "[0,", 1)):
        path.write_text(wrong)
        with pytest.raises(UserError, match=r"no JPEG tables"):
            read_jpeg_tables(path)


def test_a_damaged_photo_is_reported_and_the_others_are_used(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg", 60, "4:2:0")
    with io.BytesIO(b"\xff\xd8\xff\xe0") as file:
        (tmp_path / "b.jpg").write_bytes(file.read())
    with pytest.raises(UserError, match=r"1 of 2 failed:\n.*b\.jpg"):
        collect_jpeg_tables(tmp_path, tmp_path / "pool")
    assert len(read_jpeg_tables(tmp_path / "pool" / JPEG_TABLES)) == 1
