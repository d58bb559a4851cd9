"""The number of threads of a computation on the CPU."""

import os
import time
from pathlib import Path

STAT = Path("/proc/stat")
SAMPLE = 0.5  # seconds


def count_idle_cores(seconds: float = SAMPLE, stat: Path = STAT) -> float | None:
    """Return how many of this process's cores are idle, the mean over some seconds.

    None where the system does not tell (only Linux has `/proc/stat`). The process must not compute
    during this time.
    """
    if not hasattr(os, "sched_getaffinity") or not stat.is_file():
        return None
    before, start = _read_idle_seconds(stat), time.monotonic()
    time.sleep(seconds)
    after, elapsed = _read_idle_seconds(stat), time.monotonic() - start
    cores = [after[core] - before[core] for core in before.keys() & after.keys()]
    return sum(min(max(idle / elapsed, 0.0), 1.0) for idle in cores)


def _read_idle_seconds(stat: Path) -> dict[int, float]:
    """Return the seconds that each of this process's cores was idle or waited for a disk."""
    idle = {}
    tick = os.sysconf("SC_CLK_TCK")
    for line in stat.read_text().splitlines():
        name, *values = line.split()
        core = name.removeprefix("cpu")
        if name.startswith("cpu") and core.isdigit() and int(core) in os.sched_getaffinity(0):
            idle[int(core)] = (int(values[3]) + int(values[4])) / tick
    return idle
