import logging
import unicodedata
from pathlib import Path

import pytest

from realsr.core.errors import UserError
from realsr.data.folders import has_hr_and_lr, list_by_name, list_photos, match_folders
from realsr.imaging import ImageError


def fill(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x")
    return folder


def test_names_with_the_scale_behind_them_match(tmp_path: Path) -> None:
    hr = fill(tmp_path / "hr", "0801.png", "b.png")
    lr = fill(tmp_path / "lr", "0801x4.png", "b.jpg")
    matched = match_folders(hr, lr, 4)
    assert matched == {
        "0801": (hr / "0801.png", lr / "0801x4.png"),
        "b": (hr / "b.png", lr / "b.jpg"),
    }
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
    with pytest.raises(UserError, match=r"a\.jpg and a\.png have the same name"):
        list_by_name(fill(tmp_path, "a.png", "a.jpg"))


PUBLISHED = [
    ("img_001_SRF_4_HR", "img_001_SRF_4_LR", "{}_LR"),
    ("Canon_001_HR", "Canon_001_LR4", "{}_LR4"),
    ("DSC_1286_x4", "DSC_1286_x1", "{}_x1"),
    ("0801", "0801x4m", "{}x4m"),
    ("0801", "0801x4d", "{}x4d"),
    ("0801", "0801x4w", "{}x4w"),
]


@pytest.mark.parametrize(("high", "low", "rule"), PUBLISHED)
@pytest.mark.parametrize("together", [False, True])
def test_names_of_published_sets_match(
    high: str, low: str, rule: str, together: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hr = fill(tmp_path / "hr", f"{high}.png")
    lr = fill(hr if together else tmp_path / "lr", f"{low}.png")
    with caplog.at_level(logging.INFO, "realsr"):
        assert match_folders(hr, lr, 4) == {high: (hr / f"{high}.png", lr / f"{low}.png")}
    assert caplog.messages[-1].endswith(f"1 by {rule}")
    assert has_hr_and_lr(hr, 4) == together


def test_of_one_folder_what_no_rule_names_is_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = fill(
        tmp_path / "a",
        "Canon_1_HR.png",
        "Canon_1_LR4.png",
        "Canon_1_LR2.png",
        "Canon_1_LR3.png",
        "b.png",
    )
    with caplog.at_level(logging.INFO, "realsr"):
        ((name, files),) = match_folders(folder, folder, 4).items()
    assert (name, files) == ("Canon_1_HR", (folder / "Canon_1_HR.png", folder / "Canon_1_LR4.png"))
    assert "1 by {}_LR4; 3 other images are ignored" in caplog.messages[-1]
    assert match_folders(folder, folder, 2)["Canon_1_HR"][1] == folder / "Canon_1_LR2.png"
    fill(folder, "Canon_2_HR.png", "Canon_3_LR4.png")
    with pytest.raises(UserError, match=r"only .* has Canon_2_HR, Canon_3_LR4\."):
        match_folders(folder, folder, 4)


def test_one_folder_without_pairs_is_refused(tmp_path: Path) -> None:
    folder = fill(tmp_path / "a", "a.png", "b.png")
    assert not has_hr_and_lr(folder, 4)
    with pytest.raises(UserError, match=r"there is no pair.*0801x4\.png"):
        match_folders(folder, folder, 4)


def test_several_lr_of_one_hr_are_refused_with_what_to_set(tmp_path: Path) -> None:
    hr, lr = fill(tmp_path / "hr", "0801.png"), fill(tmp_path / "lr", "0801x4m.png", "0801x4w.png")
    with pytest.raises(UserError) as caught:
        match_folders(hr, lr, 4)
    assert "0801 has several LR images" in str(caught.value)
    assert "data.lr_name='{}x4m' or data.lr_name='{}x4w'" in str(caught.value)
    assert match_folders(hr, lr, 4, lr_name="{}x4w")["0801"][1] == lr / "0801x4w.png"


def test_one_lr_of_several_hr_is_refused(tmp_path: Path) -> None:
    hr, lr = fill(tmp_path / "hr", "a.png", "a_HR.png"), fill(tmp_path / "lr", "in-a.png")
    with pytest.raises(UserError, match=r"in-a matches both a and a_HR"):
        match_folders(hr, lr, 4, lr_name="in-{}")


def test_a_template_stands_for_the_rules(tmp_path: Path) -> None:
    hr, lr = (
        fill(tmp_path / "hr", "a.png", "b_HR.png"),
        fill(tmp_path / "lr", "in-a-4.png", "in-b-4.png", "a.png"),
    )
    matched = match_folders(hr, lr, 4, lr_name="in-{}-4")
    assert {name: low.name for name, (_, low) in matched.items() if low} == {
        "a": "in-a-4.png",
        "b_HR": "in-b-4.png",
    }
    with pytest.raises(UserError, match=r"only .*hr has a, b_HR"):
        match_folders(hr, lr, 4, lr_name="{}x4")
    with pytest.raises(UserError, match=r"data\.lr_name=x4: expected \{\} exactly once"):
        match_folders(hr, lr, 4, lr_name="x4")


def test_composed_and_decomposed_letters_are_equal(tmp_path: Path) -> None:
    names = [unicodedata.normalize(form, "caf\u00e9 \u30d1") for form in ("NFC", "NFD")]
    assert names[0] != names[1]
    hr, lr = fill(tmp_path / "hr", f"{names[0]}.png"), fill(tmp_path / "lr", f"{names[1]}x4.png")
    (name, (_, low)), *_ = match_folders(hr, lr, 4).items()
    assert name in names
    assert low is not None
    assert low.exists()


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
    with pytest.raises(UserError, match=rf"data\.{role} is not set.*set data\.{role}=FOLDER"):
        list_photos(None, role, tmp_path)


def test_two_photos_of_one_name(tmp_path):
    for name in ("a.jpg", "a.png"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"a\.jpg and a\.png have the same name; rename one"):
        list_photos(tmp_path, "source", tmp_path / "out")


def test_the_output_folder_is_no_input(tmp_path):
    (tmp_path / "pool").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "pool")
    for output in (tmp_path / "pool", tmp_path / "other" / ".." / "pool", tmp_path / "link"):
        with pytest.raises(UserError, match="output folder are both"):
            list_photos(tmp_path / "pool", "source", output)


def test_missing_and_empty_photo_folders_are_named(tmp_path):
    with pytest.raises(ImageError, match="nowhere"):
        list_photos(tmp_path / "nowhere", "source", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match=r"empty has no images"):
        list_photos(tmp_path / "empty", "target", tmp_path / "out")


def test_two_lr_whose_names_differ_in_composition_alone_are_refused(tmp_path: Path) -> None:
    names = [unicodedata.normalize(form, "café") + ".png" for form in ("NFC", "NFD")]
    hr, lr = fill(tmp_path / "hr", names[0]), fill(tmp_path / "lr", *names)
    with pytest.raises(UserError, match=r"lr: two images are named caf.*rename one"):
        match_folders(hr, lr, 4)
