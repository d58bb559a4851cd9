"""Mounts for this process and its children: small disks, read-only folders. Root on Linux."""

import ctypes
import os
import subprocess
from pathlib import Path

CLONE_NEWNS = 0x00020000
REASON = "needs root and mount namespaces (unshare -m)"


def has_namespaces() -> bool:
    """Return whether this process may make private mounts."""
    return (
        os.geteuid() == 0
        and subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0
    )


def enter_namespace() -> None:
    """Enter a mount namespace; new mounts end with this process. Raises OSError."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    mount("--make-rprivate", "/")


def mount_memory(folder: Path, size: int) -> None:
    """Mount a new disk in memory of `size` bytes over a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    mount("-t", "tmpfs", "-o", f"size={size},mode=1777", "tmpfs", str(folder))


def resize_memory(folder: Path, size: int) -> None:
    """Resize a disk that `mount_memory` has mounted.

    Never resize a shared disk: the size belongs to the disk, so it would change for all mounts.
    """
    mount("-o", f"remount,rw,size={size}", str(folder))


def make_read_only(folder: Path) -> None:
    """Make a folder read-only, whether it is a mount already or not."""
    if not os.path.ismount(folder):
        mount("--bind", str(folder), str(folder))
    mount("-o", "remount,bind,ro", str(folder))


def make_writable(folder: Path) -> None:
    """Take `make_read_only` back."""
    mount("-o", "remount,bind,rw", str(folder))


def mount(*arguments: str) -> None:
    """Call mount(8). Raises RuntimeError with its output."""
    run = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"mount {' '.join(arguments)}: {run.stderr.strip()}")
