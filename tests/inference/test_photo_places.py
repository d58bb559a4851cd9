from pathlib import Path

import pytest
from small_images import write_images

from realsr.core.errors import UserError
from realsr.imaging import ImageError
from realsr.inference.upscaling import plan_results


def results(source: Path, output: str | Path, kind: str | None = None) -> list[str]:
    return [path.as_posix() for path in plan_results([source], output, kind).values()]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_images(
        "photos/a.jpg", "photos/2024/b.PNG", "photos/2024/05/c.tif", "photos/.hidden/d.png"
    )
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
def test_a_photo_goes_to_a_file_or_into_a_folder(
    folder: Path, output: str, kind: str | None, result: str
) -> None:
    assert results(folder / "a.jpg", Path(output), kind) == [result]


def test_a_folder_that_is_there_may_have_a_dot(folder: Path) -> None:
    Path("run.v2").mkdir()
    assert results(folder / "a.jpg", Path("run.v2")) == ["run.v2/a.jpg"]


def test_folders_are_repeated(folder: Path) -> None:
    assert results(folder, Path("new")) == ["new/2024/05/c.tif", "new/2024/b.PNG", "new/a.jpg"]
    assert results(folder, Path("new"), "png") == [
        "new/2024/05/c.png",
        "new/2024/b.png",
        "new/a.png",
    ]


@pytest.mark.parametrize(
    ("source", "output", "kind", "message"),
    [
        (
            "photos/a.jpg",
            "big.gif",
            None,
            "\\.gif is not a supported output format.*for a folder, end the name with a slash",
        ),
        ("photos/a.jpg", "big.png", "jpg", "set two formats"),
        ("photos/a.jpg", "new", "heic", "format=heic: \\.heic is not a supported output format"),
        ("photos/a.jpg", "photos/a.jpg", None, "would overwrite a photo"),
        ("photos", "photos", None, "is in the folder of photos"),
        ("photos", "photos/2024/new", None, "is in the folder of photos"),
        ("photos", "big.png", None, "output must be a folder"),
        ("photos/2024", "new", "png", "would have the same result new/b.png"),
        (
            "photos",
            "plain",
            None,
            "output=plain is a file, but a folder is expected: set another output",
        ),
        ("photos/a.jpg", "plain", None, "output=plain is a file, but a folder is expected"),
        (
            "photos/a.jpg",
            "plain/new/big.png",
            None,
            "output=plain/new: plain is a file, but a folder is expected",
        ),
    ],
)
def test_bad_places(folder: Path, source: str, output: str, kind: str | None, message: str) -> None:
    write_images("photos/2024/b.jpg")
    Path("plain").write_text("precious")
    with pytest.raises(UserError, match=message):
        plan_results([Path(source)], output, kind)


@pytest.mark.parametrize("source", ["a.jpg", "2024"])
def test_a_slash_makes_a_folder_of_any_name(folder: Path, source: str) -> None:
    for output in ("results.v2/", "results.png/"):
        folders = [path.parts[0] for path in plan_results([folder / source], output).values()]
        assert set(folders) == {output[:-1]}


def test_several_sources(folder: Path) -> None:
    write_images("more/d.webp", "e.bmp")
    sources = [Path("e.bmp"), folder / "a.jpg", folder / "2024", Path("more")]
    plan = plan_results(sources, "new.v2", "png")
    assert {photo.as_posix(): result.as_posix() for photo, result in plan.items()} == {
        "e.bmp": "new.v2/e.png",
        "photos/a.jpg": "new.v2/a.png",
        "photos/2024/b.PNG": "new.v2/b.png",
        "photos/2024/05/c.tif": "new.v2/05/c.png",
        "more/d.webp": "new.v2/d.png",
    }


def test_a_photo_that_is_named_twice_is_enlarged_once(folder: Path) -> None:
    for again in (
        Path("photos/a.jpg"),
        Path("photos/../photos/a.jpg"),
        Path("photos/a.jpg").absolute(),
    ):
        plan = plan_results([folder / "a.jpg", again], "big.png")
        assert list(plan.values()) == [Path("big.png")]
    plan = plan_results([folder / "a.jpg", folder, folder / "2024"], "new")
    assert sorted(path.as_posix() for path in plan.values()) == [
        "new/2024/05/c.tif",
        "new/2024/b.PNG",
        "new/a.jpg",
    ]


def test_several_sources_that_do_not_go_together(folder: Path) -> None:
    write_images("more/a.jpg")
    with pytest.raises(
        UserError, match=r"photos/a\.jpg and more/a\.jpg would have the same result new/a\.jpg"
    ):
        plan_results([folder, Path("more")], "new")
    with pytest.raises(UserError, match="input has several photos, so output must be a folder"):
        plan_results([folder / "a.jpg", Path("more/a.jpg")], "big.png")
    with pytest.raises(UserError, match="is in the folder of photos photos"):
        plan_results([Path("more/a.jpg"), folder], "photos/new")
    with pytest.raises(ImageError, match="nowhere does not exist"):
        plan_results([folder, Path("nowhere")], "new")
    with pytest.raises(UserError, match="has no photo"):
        plan_results([], "new")


def test_no_photos(folder: Path) -> None:
    Path("empty").mkdir()
    for source in ("empty", "nowhere", "nowhere.png"):
        with pytest.raises(ImageError, match=source):
            plan_results([Path(source)], "new")
