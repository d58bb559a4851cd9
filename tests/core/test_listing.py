"""Nothing in a folder is left out in silence."""

from pathlib import Path

import pytest

from realsr.core.listing import list_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.png", "a.PNG", "notes.txt", "c.heic", "sub/d.png", "sub/deep/e.png", ".hidden.png", ".other"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).touch()
    (tmp_path / "photos" / "f.png").mkdir()
    (tmp_path / "photos" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "photos" / "album").symlink_to(tmp_path / "nowhere")
    return tmp_path / "photos"


def test_files_of_a_folder_and_what_is_left_out(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    for _ in range(2):  # the line is said once
        assert [path.name for path in list_files(folder, {".png"})] == ["a.PNG", "b.png", "gone.png"]
    [line] = caplog.messages
    assert line == (
        f"{folder}: left out: 1 hidden file (.hidden.png); 2 other files (c.heic, notes.txt); "
        "2 subfolders (f.png, sub); 1 link without a target (album)"
    )


def test_files_of_subfolders(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    names = [path.relative_to(folder).as_posix() for path in list_files(folder, {".png"}, recursive=True)]
    assert names == ["a.PNG", "album", "b.png", "gone.png", "sub/d.png", "sub/deep/e.png"]
    assert "subfolder (" not in caplog.text
    assert "1 folder with the name of a file (f.png)" in caplog.text


def test_nothing_is_said_of_a_folder_without_a_rest(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    (tmp_path / "a.mat").touch()
    assert list_files(tmp_path, {".mat"}) == [tmp_path / "a.mat"]
    assert not caplog.messages


def test_images_of_formats_that_are_not_read_have_a_line_of_their_own(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for name in ("g.GIF", "sub/h.avif"):
        (folder / name).touch()
    list_files(folder, {".png"}, unread={".heic", ".gif", ".avif"})
    list_files(folder, {".png"}, recursive=True, unread={".heic", ".gif", ".avif"})
    lines = [(record.levelname, record.message) for record in caplog.records]
    unread = "images of formats that are not read"
    assert lines[0] == ("WARNING", f"{folder}: 2 {unread} (c.heic, g.GIF): convert them to PNG or TIFF")
    assert "1 other file (notes.txt)" in lines[1][1]
    assert lines[2] == ("WARNING", f"{folder}: 3 {unread} (c.heic, g.GIF, sub/h.avif): convert them to PNG or TIFF")
    list_files(folder / "sub", {".png"}, unread={".avif"})
    single = f"{folder / 'sub'}: 1 image of a format that is not read (h.avif): convert it to PNG or TIFF"
    assert caplog.messages[4] == single
