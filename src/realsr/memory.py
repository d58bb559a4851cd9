"""How much memory is free, as far as the system tells."""

import re
from pathlib import Path

import torch

MEMINFO, CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that work on a device can use: of the machine, of the job, or of the GPU, whichever is least.

    None on systems that do not tell as Linux does.
    """
    try:
        found = re.search(r"MemAvailable: +(\d+) kB", MEMINFO.read_text(encoding="utf-8"))
    except OSError:
        return None
    if not found:
        return None
    free = int(found[1]) * 1024
    try:  # a container's or a cluster job's limit; "max" where there is none
        limit, used = ((CGROUP / name).read_text(encoding="utf-8").strip() for name in ("memory.max", "memory.current"))
        free = min(free, max(0, int(limit) - int(used)))
    except (OSError, ValueError):
        pass
    return min(free, torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else free
