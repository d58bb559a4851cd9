import pytest

from realsr.core.errors import UserError
from realsr.data.source_photos import list_photos
from realsr.imaging import ImageError


def test_photos_by_name_sorted(tmp_path):
    for name in ("b.JPG", "a.x.png", "c.tif", "notes.txt", ".hidden.png"):
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "d.png").touch()
    photos = list_photos(tmp_path, "source", tmp_path / "out")
    assert photos == {"a.x": tmp_path / "a.x.png", "b": tmp_path / "b.JPG", "c": tmp_path / "c.tif"}
    assert list(photos) == ["a.x", "b", "c"]


@pytest.mark.parametrize("role", ["source", "target"])
def test_no_folder_given(tmp_path, role):
    with pytest.raises(UserError, match=rf"data\.{role} is not given.*say data\.{role}=FOLDER"):
        list_photos(None, role, tmp_path)


def test_two_photos_of_one_name(tmp_path):
    for name in ("a.jpg", "a.png"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"a\.jpg and a\.png would both be called a; rename one"):
        list_photos(tmp_path, "source", tmp_path / "out")


def test_the_output_folder_is_no_input(tmp_path):
    (tmp_path / "pool").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "pool")
    for output in (tmp_path / "pool", tmp_path / "other" / ".." / "pool", tmp_path / "link"):
        with pytest.raises(UserError, match="output folder are the same"):
            list_photos(tmp_path / "pool", "source", output)


def test_missing_and_empty_folders_are_named(tmp_path):
    with pytest.raises(ImageError, match="nowhere"):
        list_photos(tmp_path / "nowhere", "source", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match=r"empty has no images"):
        list_photos(tmp_path / "empty", "target", tmp_path / "out")
