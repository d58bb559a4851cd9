from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from realsr.imaging.jpeg import read_quantisation


@pytest.mark.parametrize(("quality", "subsampling"), [(30, "4:2:0"), (75, "4:2:2"), (95, "4:4:4")])
def test_tables_are_those_of_the_encoder(tmp_path: Path, quality: int, subsampling: str) -> None:
    file = tmp_path / "a.jpg"
    image = Image.fromarray(np.zeros((16, 16, 3), np.uint8))
    image.save(file, quality=quality, subsampling=subsampling)
    tables = read_quantisation(file)
    assert tables is not None
    assert (tables.quality, tables.subsampling) == (quality, subsampling)
    assert [len(table) for table in tables.tables] == [64, 64]


def test_other_files_have_none(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(b"no image")
    assert read_quantisation(tmp_path / "a.png") is None
    assert read_quantisation(tmp_path / "b.jpg") is None


def test_an_unreadable_header_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0 no image")
    with pytest.raises(OSError, match="Truncated"):
        read_quantisation(tmp_path / "a.jpg")
