"""Files are whole or not there, last through a power cut, and stay in their folder. A lock has one holder."""

import errno
import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from full_disk import full_disk
from realsr.core.errors import UserError
from realsr.core.files import (
    check_folder_place,
    check_name,
    hold_lock,
    inside,
    looks_lost,
    parse_json,
    remove_leftovers,
    replace_file,
    temporary_path,
    write_bytes,
)

posix = pytest.mark.skipif(os.name != "posix", reason="locks are those of POSIX")


@pytest.mark.parametrize("name", ["a.png", "x" * 255, "写" * 85])
def test_a_name_of_any_legal_length_can_be_written(name: str, tmp_path: Path) -> None:
    write_bytes(tmp_path / name, b"1")
    assert (tmp_path / name).read_bytes() == b"1"
    assert len(list(tmp_path.iterdir())) == 1


def test_the_file_and_its_folder_are_synced_in_this_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = list[str]()
    fsync, replace = os.fsync, Path.replace

    def note(number: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(number).st_mode) else "file")
        fsync(number)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(
        Path, "replace", lambda path, target: (steps.append("rename"), replace(path, target))
    )
    write_bytes(tmp_path / "a", b"1")
    assert steps == ["file", "rename", "folder"]
    write_bytes(tmp_path / "a", b"1", sync=False)
    assert steps[3:] == ["rename"]


def test_an_error_names_the_file_and_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bytes(tmp_path / "a", b"old")

    def fail(number: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with full_disk(errno.ENOSPC), pytest.raises(OSError, match="says no"):
        write_bytes(tmp_path / "a", b"new")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=f"Input/output error: '{tmp_path / 'a'}'"):
        write_bytes(tmp_path / "a", b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"old"}


def test_two_that_write_one_file_wait_for_each_other(tmp_path: Path) -> None:
    def write(number: int) -> None:
        with replace_file(tmp_path / "a", sync=False) as file:
            for _ in range(20):
                file.write(b"%d" % number)
                file.flush()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(8)))
    [result] = tmp_path.iterdir()
    assert len(set(result.read_bytes())) == 1
    assert len(result.read_bytes()) == 20


def test_only_leftovers_of_dead_processes_are_removed(tmp_path: Path) -> None:
    dead = temporary_path(tmp_path / "dead.png")
    dead.write_bytes(b"half")
    (tmp_path / ".mine.tmp").write_bytes(b"not of this program")
    with replace_file(tmp_path / "alive.png") as file:
        file.write(b"1")
        remove_leftovers(tmp_path)
        assert not dead.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine.tmp", "alive.png"]


@pytest.mark.parametrize(
    ("content", "lost"),
    [(b"", True), (bytes(10), True), (bytes(5000), True), (b"x" * 9 + bytes(5000), True), (bytes(600) + b"x", True),
     (b"x", False), (bytes(9) + b"x", False), (b"x" * 600 + bytes(4000) + b"x", False)],
)  # fmt: skip
def test_what_looks_lost(content: bytes, lost: bool, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    assert looks_lost(tmp_path / "a") == lost


@pytest.mark.parametrize("name", ["a", "a/b", "./a", "a..b", "…", "link"])
def test_names_inside_a_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert inside(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize(
    "name",
    ["..", "a/../b", "/a", "", ".", "a\0", "out", "out/b", "loop", None, 1, ["a"], "x" * 256],
)
def test_names_that_lead_outside(name: object, tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path.parent)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ValueError, match=r"leads outside|not the name of a file"):
        inside(tmp_path, name)
    if isinstance(name, str) and name.startswith("out"):
        assert inside(tmp_path, name, follow_links=True) == tmp_path / name


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "", "{", b"\xff"])
def test_json_that_is_none_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_json(text)


@pytest.mark.parametrize(
    ("place", "subject"), [("a", "output=a is"), ("a/b/c", "output=a/b/c: a is")]
)
def test_a_file_in_the_place_of_a_folder_is_told(
    place: str, subject: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check_folder_place("output", Path(place))
    Path("a").mkdir()
    check_folder_place("output", Path(place))
    Path("a").rmdir()
    Path("a").symlink_to("nowhere")
    with pytest.raises(
        UserError, match=f"^{subject} a link without a target, but a folder is expected"
    ):
        check_folder_place("output", Path(place))
    Path("a").unlink()
    Path("a").touch()
    with pytest.raises(
        UserError, match=f"^{subject} a file, but a folder is expected: set another output"
    ):
        check_folder_place("output", Path(place))


@pytest.mark.parametrize(("name", "size"), [("y" * 256, 256), ("写" * 84 + ".png", 256)])
def test_names_are_as_long_as_file_systems_allow(name: str, size: int) -> None:
    check_name(name[1:])
    with pytest.raises(ValueError, match=f"has {size} bytes, at most 255 are allowed"):
        check_name(name)


HOLD = """
import sys, time
from pathlib import Path
from realsr.core.files import hold_lock
with hold_lock(Path(sys.argv[1]), "work"):
    print("held", flush=True)
    time.sleep(60)
"""


def start(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@posix
def test_the_holder_is_named_and_its_death_frees_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / ".work.lock"
    process = start(lock)
    try:
        expected = rf"run: in use by process {process.pid} on .+ since \d{{4}}-.*\. Wait"
        with (
            pytest.raises(UserError, match=expected),
            hold_lock(lock, "run", wait=False, advice="Wait."),
        ):
            pass
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    with hold_lock(lock, "run", wait=False):
        assert lock.read_text().startswith(f"process {os.getpid()} on ")
    assert list(tmp_path.iterdir()) == []


@posix
@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b"null"])
def test_a_lock_file_of_any_content_can_be_taken(content: bytes, tmp_path: Path) -> None:
    lock = tmp_path / ".work.lock"
    lock.write_bytes(content)
    with hold_lock(lock, "run", wait=False):
        lock.write_bytes(content)
        with (
            pytest.raises(UserError, match="in use by another process"),
            hold_lock(lock, "run", wait=False),
        ):
            pass
