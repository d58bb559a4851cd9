from pathlib import Path

import pytest

from realsr.data.folders import list_by_name, match_folders
from realsr.errors import UserError


def fill(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x")
    return folder


def test_names_with_the_scale_behind_them_match(tmp_path: Path) -> None:
    hr = fill(tmp_path / "hr", "0801.png", "b.png")
    lr = fill(tmp_path / "lr", "0801x4.png", "b.jpg")
    matched = match_folders(hr, lr, 4)
    assert matched == {"0801": (hr / "0801.png", lr / "0801x4.png"), "b": (hr / "b.png", lr / "b.jpg")}
    assert match_folders(hr, None, 4)["b"] == (hr / "b.png", None)
    with pytest.raises(UserError, match=r"only .*lr has 0801x4"):
        match_folders(hr, lr, 2)


def test_a_name_that_ends_so_itself_is_left_alone(tmp_path: Path) -> None:
    hr, lr = fill(tmp_path / "hr", "ax4.png", "a.png"), fill(tmp_path / "lr", "ax4.png", "a.png")
    assert match_folders(hr, lr, 4)["ax4"] == (hr / "ax4.png", lr / "ax4.png")
    (hr / "ax4.png").unlink()
    with pytest.raises(UserError, match=r"only .*lr has ax4"):
        match_folders(hr, lr, 4)


def test_all_names_that_differ_are_listed(tmp_path: Path) -> None:
    hr = fill(tmp_path / "hr", "a.png", "b.png", *(f"{n:02}.png" for n in range(25)))
    lr = fill(tmp_path / "lr", "a.png", "c.png")
    with pytest.raises(UserError) as caught:
        match_folders(hr, lr, 4)
    assert f"only {hr} has 00, 01, 02" in str(caught.value)
    assert "19 and 6 more" in str(caught.value)
    assert f"only {lr} has c" in str(caught.value)


def test_two_files_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.jpg and a\.png would both be called a"):
        list_by_name(fill(tmp_path, "a.png", "a.jpg"))
