"""A bound on the memory that reading a file may take, for files that are not trusted."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

ROOM, TIMES = 2**30, 8
"""A file may take this many bytes, and this many times its own size, while it is read."""
STATUS = Path("/proc/self/status")


@contextmanager
def limited_memory(size: int) -> Iterator[None]:
    """Let this process allocate at most 1 GB and eight times `size` bytes (a file's) more inside the block.

    Beyond, allocations fail by MemoryError, or by the RuntimeError of a library, instead of the system ending the
    process. It holds for all threads of the process, and only on Linux; elsewhere it does nothing.
    """
    taken = _allocated()
    if resource is None or taken is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [value for value in (soft, hard, taken + ROOM + TIMES * size) if value != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(limits), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _allocated() -> int | None:
    """Return the bytes that RLIMIT_DATA counts now; None where the system does not report them."""
    try:
        reported = re.search(r"VmData:\s+(\d+) kB", STATUS.read_text(encoding="utf-8"))
    except OSError:
        return None
    return int(reported[1]) * 1024 if reported else None
