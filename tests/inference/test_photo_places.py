from pathlib import Path

import pytest
from small_images import write_images

from realsr.errors import UserError
from realsr.imaging import ImageError
from realsr.inference.photos import plan_enlargements


def results(source: Path, output: Path, kind: str | None = None) -> list[str]:
    return [one.result.as_posix() for one in plan_enlargements(source, output, kind)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_images("photos/a.jpg", "photos/2024/b.PNG", "photos/2024/05/c.tif", "photos/.hidden/d.png")
    return Path("photos")


@pytest.mark.parametrize(
    ("output", "kind", "result"),
    [
        ("big.png", None, "big.png"),
        ("new/big.TIFF", None, "new/big.TIFF"),
        ("new", None, "new/a.jpg"),
        ("new", "png", "new/a.png"),
        ("new", ".webp", "new/a.webp"),
        ("big.png", "png", "big.png"),
    ],
)
def test_a_photo_goes_to_a_file_or_into_a_folder(folder: Path, output: str, kind: str | None, result: str) -> None:
    assert results(folder / "a.jpg", Path(output), kind) == [result]


def test_a_folder_that_is_there_may_have_a_dot(folder: Path) -> None:
    Path("run.v2").mkdir()
    assert results(folder / "a.jpg", Path("run.v2")) == ["run.v2/a.jpg"]


def test_folders_are_repeated(folder: Path) -> None:
    assert results(folder, Path("new")) == ["new/2024/05/c.tif", "new/2024/b.PNG", "new/a.jpg"]
    assert results(folder, Path("new"), "png") == ["new/2024/05/c.png", "new/2024/b.png", "new/a.png"]


@pytest.mark.parametrize(
    ("source", "output", "kind", "said"),
    [
        ("photos/a.jpg", "big.gif", None, "output=big.gif: \\.gif is no known image format"),
        ("photos/a.jpg", "big.png", "jpg", "say two formats"),
        ("photos/a.jpg", "new", "heic", "format=heic: \\.heic is no known image format"),
        ("photos/a.jpg", "photos/a.jpg", None, "take the place of a photo"),
        ("photos", "photos", None, "lies in the folder of photos"),
        ("photos", "photos/2024/new", None, "lies in the folder of photos"),
        ("photos", "big.png", None, "output must be a folder"),
        ("photos/2024", "new", "png", "would both become new/b.png"),
    ],
)
def test_bad_places(folder: Path, source: str, output: str, kind: str | None, said: str) -> None:
    write_images("photos/2024/b.jpg")
    with pytest.raises(UserError, match=said):
        plan_enlargements(Path(source), Path(output), kind)


def test_no_photos(folder: Path) -> None:
    Path("empty").mkdir()
    for source in ("empty", "nowhere", "nowhere.png"):
        with pytest.raises(ImageError, match=source):
            plan_enlargements(Path(source), Path("new"))
