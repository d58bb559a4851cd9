"""The memory and the idle cores of the machine are those that the system reports."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from realsr.core import machine

CPU = torch.device("cpu")


@pytest.fixture
def system(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    return tmp_path


def test_a_system_that_does_not_tell(system):
    assert machine.free_memory(CPU) is None
    (system / "meminfo").write_text("something else\n")
    assert machine.free_memory(CPU) is None


@pytest.mark.parametrize(
    ("limit", "free"), [(None, 2**30), ("max", 2**30), ("900000000", 800000000), ("5", 0)]
)
def test_the_job_may_have_less_than_the_machine(system, limit, free):
    (system / "meminfo").write_text("MemTotal:  9999999 kB\nMemAvailable:    1048576 kB\n")
    if limit:
        (system / "memory.max").write_text(f"{limit}\n")
        (system / "memory.current").write_text("100000000\n")
    assert machine.free_memory(CPU) == free


@pytest.fixture
def write_stat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write /proc/stat with the ticks that each core was idle, now and after a second."""
    monkeypatch.setattr(machine.os, "sysconf", lambda name: 100)
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: {0, 2}, raising=False)
    monkeypatch.setattr(machine, "STAT", tmp_path / "stat")

    def write(*idle: int) -> None:
        lines = [f"cpu{core} 5 0 5 {ticks} 10 0 0" for core, ticks in enumerate(idle)]
        (tmp_path / "stat").write_text("cpu  9 9 9 9 9\n" + "\n".join(lines) + "\nintr 5\n")

    return write


def test_idle_cores_of_this_process_are_counted(
    write_stat: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_stat(1000, 1000, 1000)
    clock = iter((0.0, 1.0))
    monkeypatch.setattr(machine.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(machine.time, "sleep", lambda seconds: write_stat(1100, 1100, 1025))
    assert machine.count_idle_cores() == pytest.approx(1.25)  # core 1 is not ours


def test_other_systems_do_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "STAT", tmp_path / "missing")
    assert machine.count_idle_cores() is None
