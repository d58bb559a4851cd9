import os
from pathlib import Path

import pytest

from realsr.imaging import ImageError, find_images, list_images


def test_list_images(tmp_path):
    for name in ("b.PNG", "a.jpg", "c.tiff", ".hidden.png", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["a.jpg", "b.PNG", "c.tiff"]


def test_list_images_says_what_is_there_instead(tmp_path):
    with pytest.raises(ImageError, match="nowhere does not exist"):
        list_images(tmp_path / "nowhere")
    with pytest.raises(ImageError, match="has no images"):
        list_images(tmp_path)
    for name in ("notes.txt", "more.csv"):
        (tmp_path / name).touch()
    with pytest.raises(ImageError, match="is a file"):
        list_images(tmp_path / "notes.txt")
    for name in ("HR", "LR", "X2", "X4", "empty"):
        (tmp_path / name).mkdir()
        if name != "empty":
            (tmp_path / name / "1.png").touch()
    with pytest.raises(ImageError, match=r"subfolders HR, LR, X2 and others contain images"):
        list_images(tmp_path)


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_find_images_goes_into_subfolders_but_not_hidden_ones(tmp_path):
    make(
        tmp_path,
        "b/2.PNG",
        "b/c/1.webp",
        "a.jpg",
        "b/.hidden.png",
        ".git/x.png",
        "b/.c/x.png",
        "notes.txt",
        "b.png/n",
    )
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert found == ["a.jpg", "b/2.PNG", "b/c/1.webp"]


def test_a_file_is_found_whatever_its_suffix(tmp_path):
    make(tmp_path, "photo")
    assert find_images(tmp_path / "photo") == [tmp_path / "photo"]


def test_links_are_followed_once(tmp_path):
    make(tmp_path, "photos/1/x.png", "photos/2/y.png", "elsewhere/z.png")
    (tmp_path / "photos/1/loop").symlink_to(tmp_path / "photos")
    (tmp_path / "photos/0").symlink_to(tmp_path / "photos/1")
    (tmp_path / "photos/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos/gone.png").symlink_to(tmp_path / "nowhere.png")
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path / "photos")]
    assert found == ["photos/1/x.png", "photos/2/y.png", "photos/gone.png", "photos/more/z.png"]


def test_find_images_says_what_is_wrong(tmp_path):
    with pytest.raises(ImageError, match="nowhere does not exist"):
        find_images(tmp_path / "nowhere")
    make(tmp_path, "a/notes.txt")
    with pytest.raises(ImageError, match="has no images"):
        find_images(tmp_path)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ImageError, match=r"loop (does not exist|cannot be listed)"):
        find_images(tmp_path / "loop")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read any folder")
def test_a_subfolder_that_cannot_be_listed_is_named(tmp_path):
    make(tmp_path, "a.png", "locked/b.png")
    (tmp_path / "locked").chmod(0)
    try:
        with pytest.raises(ImageError, match="locked cannot be listed"):
            find_images(tmp_path)
    finally:
        (tmp_path / "locked").chmod(0o755)
