"""How much memory is free, as far as the system reports it, and a bound on what reading a file may take."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # an exported file is measured without it
    import torch

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

MEMINFO, CGROUP, STATUS = Path("/proc/meminfo"), Path("/sys/fs/cgroup"), Path("/proc/self/status")
ROOM, TIMES = 2**30, 8
"""A file may take this many bytes, and this many times its own size, while it is read."""


def free_memory(device: "torch.device") -> int | None:
    """Return the bytes that work on a device can use: of the machine, of the job, or of the GPU, whichever is least.

    None on systems that do not report it as Linux does.
    """
    free = _read_size(MEMINFO, "MemAvailable")
    if free is None:
        return None
    try:  # a container's or a cluster job's limit; "max" where there is none
        limit, used = (
            (CGROUP / name).read_text(encoding="utf-8").strip()
            for name in ("memory.max", "memory.current")
        )
        free = min(free, max(0, int(limit) - int(used)))
    except (OSError, ValueError):
        pass
    if device.type != "cuda":
        return free
    import torch

    return min(free, torch.cuda.mem_get_info(device)[0])


@contextmanager
def limited_memory(size: int) -> Iterator[None]:
    """Let this process allocate at most 1 GB and eight times `size` bytes (a file's) more inside the block.

    Beyond, allocations fail by MemoryError, or by the RuntimeError of a library, instead of the system ending the
    process. It holds for all threads of the process, and only on Linux; elsewhere it does nothing.
    """
    allocated = process_memory("VmData")
    if resource is None or allocated is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [
        value
        for value in (soft, hard, allocated + ROOM + TIMES * size)
        if value != resource.RLIM_INFINITY
    ]
    resource.setrlimit(resource.RLIMIT_DATA, (min(limits), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def process_memory(key: str) -> int | None:
    """Return this process's memory in bytes: now (VmRSS), at most (VmHWM), or as RLIMIT_DATA counts it (VmData).

    None where the system does not report it. (`ru_maxrss` is not VmHWM: it starts with that of the parent process.)
    """
    return _read_size(STATUS, key)


def _read_size(file: Path, name: str) -> int | None:
    """Return a size that a file of /proc reports, in bytes; None where it does not."""
    try:
        match = re.search(rf"{name}:\s+(\d+) kB", file.read_text(encoding="utf-8"))
    except OSError:
        return None
    return int(match[1]) * 1024 if match else None
