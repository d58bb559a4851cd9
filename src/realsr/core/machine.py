"""What the system reports: memory, processor, idle cores; and a memory limit for reading files."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the benchmark of exported files runs without torch
    import torch

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

MEMINFO, CGROUP, STATUS = Path("/proc/meminfo"), Path("/sys/fs/cgroup"), Path("/proc/self/status")
STAT, CPUINFO = Path("/proc/stat"), Path("/proc/cpuinfo")
SAMPLE = 0.5  # seconds
ALLOWANCE, SIZE_FACTOR = 2**30, 8
"""Reading a file may allocate ALLOWANCE bytes plus SIZE_FACTOR times the file size."""


def machine_memory() -> int | None:
    """Return the machine's memory in bytes; None if the system does not report it."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def free_memory(device: "torch.device") -> int | None:
    """Return the free memory of a device in bytes: the minimum of machine, job (cgroup) and GPU.

    None on systems other than Linux.
    """
    free = _read_size(MEMINFO, "MemAvailable")
    if free is None:
        return None
    try:  # the limit of a container or a cluster job; "max" if unlimited
        limit, usage = (
            (CGROUP / name).read_text(encoding="utf-8") for name in ("memory.max", "memory.current")
        )
        free = min(free, max(0, int(limit) - int(usage)))
    except (OSError, ValueError):
        pass
    if device.type != "cuda":
        return free
    import torch

    return min(free, torch.cuda.mem_get_info(device)[0])


def process_memory(key: str) -> int | None:
    """Return the memory of this process in bytes; None if the system does not report it.

    key: VmRSS (current), VmHWM (peak) or VmData (as RLIMIT_DATA counts it). `ru_maxrss` differs from
    VmHWM, since it starts with the value of the parent process.
    """
    return _read_size(STATUS, key)


def _read_size(file: Path, name: str) -> int | None:
    try:
        match = re.search(rf"{name}:\s+(\d+) kB", file.read_text(encoding="utf-8"))
    except OSError:
        return None
    return int(match[1]) * 1024 if match else None


def describe_processor(key: str) -> str:
    """Return a value of the first processor, e.g. `model name` or `flags`; empty if unknown."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


@contextmanager
def limited_memory(size: int) -> Iterator[None]:
    """Limit further allocations of this process inside the block to 1 GiB plus 8 times `size`.

    size: the size of a file in bytes. Allocations above the limit raise MemoryError, or RuntimeError
    in a library; without it, the system would kill the process. The limit applies to all threads.
    It has no effect on systems other than Linux.
    """
    data_size = process_memory("VmData")
    if resource is None or data_size is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limits = (soft, hard, data_size + ALLOWANCE + SIZE_FACTOR * size)
    limit = min(value for value in limits if value != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def count_idle_cores() -> float | None:
    """Return how many of this process's cores are idle, the mean over half a second.

    None where the system does not tell (only Linux has `/proc/stat`). The process must not compute
    during this time.
    """
    if not hasattr(os, "sched_getaffinity") or not STAT.is_file():
        return None
    idle_at_start, start = _read_idle_seconds(), time.monotonic()
    time.sleep(SAMPLE)
    idle_at_end, elapsed = _read_idle_seconds(), time.monotonic() - start
    # A core that is gone was not idle.
    cores = [idle_at_end.get(core, idle) - idle for core, idle in idle_at_start.items()]
    return sum(min(max(idle / elapsed, 0.0), 1.0) for idle in cores)


def _read_idle_seconds() -> dict[int, float]:
    """Return the seconds that each of this process's cores was idle or waited for a disk."""
    tick = os.sysconf("SC_CLK_TCK")
    lines = re.findall(r"^cpu(\d+)((?: +\d+)+)", STAT.read_text(), re.MULTILINE)
    idle = {int(core): sum(map(int, values.split()[3:5])) / tick for core, values in lines}
    return {core: idle[core] for core in idle.keys() & os.sched_getaffinity(0)}
