"""Free memory as the system reports it, and a memory limit for reading files."""

import re
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
ALLOWANCE, SIZE_FACTOR = 2**30, 8
"""Reading a file may allocate ALLOWANCE bytes plus SIZE_FACTOR times the file size."""


def free_memory(device: "torch.device") -> int | None:
    """Return the free memory of a device in bytes: the minimum of machine, job (cgroup) and GPU.

    None on systems other than Linux.
    """
    free = _read_size(MEMINFO, "MemAvailable")
    if free is None:
        return None
    try:  # the limit of a container or a cluster job; "max" if unlimited
        limit, usage = (
            (CGROUP / name).read_text(encoding="utf-8").strip()
            for name in ("memory.max", "memory.current")
        )
        free = min(free, max(0, int(limit) - int(usage)))
    except (OSError, ValueError):
        pass
    if device.type != "cuda":
        return free
    import torch

    return min(free, torch.cuda.mem_get_info(device)[0])


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


def process_memory(key: str) -> int | None:
    """Return the memory of this process in bytes; None if the system does not report it.

    key: VmRSS (current), VmHWM (peak) or VmData (as RLIMIT_DATA counts it). `ru_maxrss` differs from
    VmHWM, since it starts with the value of the parent process.
    """
    return _read_size(STATUS, key)


def _read_size(file: Path, name: str) -> int | None:
    """Return a size in bytes from a file of /proc; None if it is not there."""
    try:
        match = re.search(rf"{name}:\s+(\d+) kB", file.read_text(encoding="utf-8"))
    except OSError:
        return None
    return int(match[1]) * 1024 if match else None
