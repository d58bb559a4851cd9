"""Mounts that only this process and its children see: small disks, read-only folders. For root on Linux."""

import ctypes
import os
import subprocess
from pathlib import Path

CLONE_NEWNS = 0x00020000
REASON = "needs root and mount namespaces (unshare -m)"


def has_namespaces() -> bool:
    """Whether this process may make mounts of its own."""
    return os.geteuid() == 0 and subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0


def enter_namespace() -> None:
    """Leave the mounts that others see: those made from now on end with this process. Raises OSError."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    mount("--make-rprivate", "/")


def mount_memory(folder: Path, size: int) -> None:
    """Mount a disk in memory of `size` bytes; an earlier one of the folder gets another size."""
    options = f"size={size},mode=0755"
    if os.path.ismount(folder):
        mount("-o", f"remount,rw,{options}", str(folder))
    else:
        folder.mkdir(parents=True, exist_ok=True)
        mount("-t", "tmpfs", "-o", options, "tmpfs", str(folder))


def make_read_only(folder: Path) -> None:
    """Make a folder read-only, whether it is a mount already or not."""
    if not os.path.ismount(folder):
        mount("--bind", str(folder), str(folder))
    mount("-o", "remount,bind,ro", str(folder))


def make_writable(folder: Path) -> None:
    """Take `make_read_only` back."""
    mount("-o", "remount,bind,rw", str(folder))


def mount(*arguments: str) -> None:
    """Call mount(8). Raises RuntimeError with what it says."""
    run = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"mount {' '.join(arguments)}: {run.stderr.strip()}")
