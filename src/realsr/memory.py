"""How much memory is free, as far as the system tells."""

import re
from pathlib import Path

MEMINFO, CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


def free_memory() -> int | None:
    """Return the bytes of main memory that can be used: of the machine or of the job, whichever has less.

    None on systems that do not say it as Linux does.
    """
    try:
        found = re.search(r"MemAvailable: +(\d+) kB", MEMINFO.read_text())
    except OSError:
        return None
    if not found:
        return None
    free = int(found[1]) * 1024
    try:  # a container's or a cluster job's limit; "max" where there is none
        limit, used = ((CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return min(free, max(0, int(limit) - int(used)))
    except (OSError, ValueError):
        return free
