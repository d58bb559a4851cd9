"""Idle cores are counted from the kernel's clocks."""

from collections.abc import Callable
from pathlib import Path

import pytest

from realsr.core import threads


@pytest.fixture
def write_stat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write /proc/stat with the ticks that each core was idle, now and after a second."""
    monkeypatch.setattr(threads.os, "sysconf", lambda name: 100)
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda pid: {0, 2}, raising=False)

    def write(*idle: int) -> Path:
        lines = [f"cpu{core} 5 0 5 {ticks} 10 0 0" for core, ticks in enumerate(idle)]
        path = tmp_path / "stat"
        path.write_text("cpu  9 9 9 9 9\n" + "\n".join(lines) + "\nintr 5\n")
        return path

    return write


def test_idle_cores_of_this_process_are_counted(
    write_stat: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_stat(1000, 1000, 1000)
    clock = iter((0.0, 1.0))
    monkeypatch.setattr(threads.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(threads.time, "sleep", lambda seconds: write_stat(1100, 1100, 1025))
    assert threads.count_idle_cores(1.0, path) == pytest.approx(1.25)  # core 1 is not ours


def test_other_systems_do_not_tell(tmp_path: Path) -> None:
    assert threads.count_idle_cores(0.0, tmp_path / "missing") is None
