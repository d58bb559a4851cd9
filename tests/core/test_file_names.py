import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

import realsr
from realsr.core.file_names import encode_name, list_files, printable, resolve_unnamed, utf8_path
from realsr.core.seeding import derive_seed
from realsr.core.tensor_files import read_tensors


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("写真 é😀.png", "写真 é😀.png"),
        ("👨\u200d👩", "👨\u200d👩"),
        ("latin\udce9", "latin\\xe9"),
        ("a\nb\x1b[31m\u2028", "a\\nb\\x1b[31m\\u2028"),
        (Path("a/b\t"), "a/b\\t"),
    ],
)
def test_names_as_text_on_one_line(name: str | Path, shown: str) -> None:
    assert printable(name) == shown
    assert len(printable(name).splitlines()) == 1
    printable(name).encode()


def test_names_that_are_not_utf8_have_seeds_of_their_own_and_others_keep_theirs() -> None:
    assert encode_name("latin\udce9") == b"latin\xe9"
    assert derive_seed(0, "latin\udce9") != derive_seed(0, "latiné")
    assert derive_seed(0, "写真") == 6497864735672188923


LOCALES = {
    "C": {"LC_ALL": "C"},
    "POSIX": {"LC_ALL": "POSIX"},
    "ASCII": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


@pytest.mark.parametrize("locale", LOCALES)
def test_seeds_and_text_of_a_name_are_those_of_any_locale(locale: str, tmp_path: Path) -> None:
    (tmp_path / "写真 é.png").touch()
    code = (
        "import sys; from pathlib import Path; from realsr.core.seeding import derive_seed; "
        "from realsr.core.file_names import printable; (path,) = Path(sys.argv[1]).iterdir(); "
        "print(derive_seed(0, path.stem), printable(path.name).encode())"
    )
    environment = {
        **os.environ,
        **LOCALES[locale],
        "PYTHONPATH": str(Path(realsr.__file__).parents[1]),
    }
    command = [sys.executable, "-c", code, str(tmp_path)]
    outcome = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert outcome.stdout == f"{derive_seed(0, '写真 é')} {'写真 é.png'.encode()!r}\n", (
        outcome.stderr
    )


@pytest.mark.parametrize("name", ["plain", "latin\udce9", "写真"])
def test_tensors_are_read_from_files_of_any_name(name: str, tmp_path: Path) -> None:
    folder, state = tmp_path / name, {"weight": torch.arange(6.0)}
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"this file system does not hold such names ({error})")
    (folder / f"{name}.safetensors").write_bytes(save(state))
    torch.save(state, (folder / f"{name}.pth").open("wb"))
    for suffix in (".safetensors", ".pth"):
        content, _ = read_tensors(folder / f"{name}{suffix}")
        assert isinstance(content, dict)
        assert torch.equal(content["weight"], state["weight"])
    with utf8_path(folder / f"{name}.pth") as path:
        str(path).encode()
        assert path.suffix == ".pth"
        assert path.samefile(folder / f"{name}.pth")


def test_folders_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    assert [resolve_unnamed(Path(text)).name for text in (".", "..", "c/..", "x/")] == [
        "b",
        "a",
        "b",
        "x",
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (
        "b.png",
        "a.PNG",
        "notes.txt",
        "c.heic",
        "sub/d.png",
        "sub/deep/e.png",
        ".hidden.png",
        ".other",
    ):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).touch()
    (tmp_path / "photos" / "f.png").mkdir()
    (tmp_path / "photos" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "photos" / "album").symlink_to(tmp_path / "nowhere")
    return tmp_path / "photos"


def test_files_of_a_folder_and_what_is_left_out(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for _ in range(2):  # the line is said once
        assert [path.name for path in list_files(folder, {".png"})] == [
            "a.PNG",
            "b.png",
            "gone.png",
        ]
    [line] = caplog.messages
    assert line == (
        f"{folder}: skipped: 4 other files (.hidden.png, album, c.heic, notes.txt); 2 subfolders (f.png, sub)"
    )


def test_files_of_subfolders(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    names = [
        path.relative_to(folder).as_posix() for path in list_files(folder, {".png"}, recursive=True)
    ]
    assert names == ["a.PNG", "album", "b.png", "gone.png", "sub/d.png", "sub/deep/e.png"]
    assert "subfolder (" not in caplog.text


def test_nothing_is_said_of_a_folder_without_a_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
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
    unread = "in unsupported formats: convert to PNG or TIFF"
    assert lines[0] == ("WARNING", f"{folder}: 2 images (c.heic, g.GIF) {unread}")
    assert "3 other files (.hidden.png, album, notes.txt)" in lines[1][1]
    assert lines[2] == ("WARNING", f"{folder}: 3 images (c.heic, g.GIF, sub/h.avif) {unread}")
    list_files(folder / "sub", {".png"}, unread={".avif"})
    assert caplog.messages[4] == f"{folder / 'sub'}: 1 image (h.avif) {unread}"
