"""A lock is held by one process at a time, and ends with it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from realsr.core.errors import UserError
from realsr.core.file_lock import describe_holder, hold_lock, is_locked

pytestmark = pytest.mark.skipif(os.name != "posix", reason="locks are those of POSIX")

HOLD = """
import sys, time
from pathlib import Path
from realsr.core.file_lock import hold_lock
with hold_lock(Path(sys.argv[1]), "work", shared=sys.argv[2] == "shared"):
    print("held", flush=True)
    time.sleep(60)
"""


def start(path: Path, kind: str = "alone") -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path), kind], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_holder_is_named_and_its_death_frees_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / ".work.lock"
    process = start(lock)
    try:
        assert is_locked(lock)
        expected = rf"run: in use by process {process.pid} on .+ since \d{{4}}-.*\. Wait"
        with pytest.raises(UserError, match=expected), hold_lock(lock, "run", wait=False, advice="Wait."):
            pass
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert not is_locked(lock)
    with hold_lock(lock, "run", wait=False):
        assert describe_holder(lock).startswith(f"process {os.getpid()} on ")
    assert list(tmp_path.iterdir()) == []


def test_shared_holders_exclude_the_others_alone(tmp_path: Path) -> None:
    lock = tmp_path / ".work.lock"
    process = start(lock, "shared")
    try:
        with hold_lock(lock, "run", wait=False, shared=True):
            pass
        assert lock.exists()
        with pytest.raises(UserError, match="in use by another process"), hold_lock(lock, "run", wait=False):
            pass
    finally:
        process.kill()
        process.communicate()
    with hold_lock(lock, "run", wait=False, shared=True):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b"null"])
def test_a_lock_file_of_any_content_can_be_taken(content: bytes, tmp_path: Path) -> None:
    lock = tmp_path / ".work.lock"
    lock.write_bytes(content)
    assert describe_holder(lock) == "another process"
    with hold_lock(lock, "run", wait=False):
        pass
