"""Count a process's file operations, log each, and inject a fault at one of them.

Install it in the process of a command before the command starts; an audit hook cannot be removed.
"""

# ruff: noqa: PTH100, PTH113, PTH115, PTH116, PTH117, PTH118, PTH123
# Inside an audit hook plain system calls are sufficient.
import errno
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Libraries may write here, outside of a trial: devices and shared memory.
SYSTEM_FOLDERS = ("/dev/", "/proc/", "/sys/", "/tmp/torch", "/tmp/pymp", "/run/")
EVENTS = "/events.out.tfevents."
NEEDS_SPACE = ("open", "mkdir", "fsync", "truncate", "link")


@dataclass(frozen=True)
class Fault:
    """A fault at a file operation.

    action: `kill`, `stop` (wait for a signal), `error` (an OSError of number `error`), `call`, or `file_size` (a limit
    of `size` bytes on all files, from the start).
    operation: its number, counted from 0; None: no operation.
    lasting: all later operations that the error concerns also fail.
    only: part of the paths that an error concerns; with it, `operation` may be None: all operations on such paths.
    call: function that is called once, before the operation, by `call`.
    """

    action: str
    operation: int | None = None
    error: int = 0
    lasting: bool = False
    only: str = ""
    size: int = 0
    call: Callable[[], None] | None = None


class FileHook:
    """Sees the file operations of this process below `here`, and those that are outside of `root`.

    TensorBoard's writer is a thread that opens its file for each record: only that which makes the file is counted, so
    that operations have the same numbers each time.

    Lines of the log: {"n", "kind", "path", "to"} for operations; {"kind": "synced", "path", "dev", "ino", "size",
    "mtime_ns"} after each fsync; {"kind": "outside" or "sentinel", "path", "event"} for what should not be touched.
    `backups` gets the content that a rename replaces, under the operation's number.
    """

    def __init__(
        self,
        here: Path,
        root: Path,
        log: Path,
        backups: Path,
        sentinels: frozenset[str],
        fault: Fault | None,
    ) -> None:
        self._here, self._root = os.path.realpath(here) + "/", os.path.realpath(root) + "/"
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._backups, self._sentinels, self._fault = str(backups), sentinels, fault
        self._pid, self._count, self._busy = os.getpid(), 0, False
        if fault is not None and fault.action == "file_size":
            resource.setrlimit(resource.RLIMIT_FSIZE, (fault.size, fault.size))

    def install(self) -> None:
        """Install the hook permanently."""
        fsync, fdatasync = os.fsync, os.fdatasync
        os.fsync = self._wrap_sync(fsync)
        os.fdatasync = self._wrap_sync(fdatasync)
        sys.addaudithook(self._see)

    def _see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._busy or os.getpid() != self._pid:
            return
        if event == "open":
            self._see_open(*arguments)
        elif event == "os.rename":
            source, target = (
                _resolve(arguments[0], arguments[2]),
                _resolve(arguments[1], arguments[3]),
            )
            if source is not None and target is not None and self._quietly(os.path.lexists, source):
                self._operate("rename", source, target)
        elif event in ("os.remove", "os.rmdir"):
            path = _resolve(arguments[0], arguments[1])
            if path is not None and self._quietly(os.path.lexists, path):
                self._operate(event.removeprefix("os."), path)
        elif event == "os.mkdir":
            path = _resolve(arguments[0], arguments[2])
            if path is not None and not self._quietly(os.path.lexists, path):
                self._operate("mkdir", path)
        elif event in ("os.link", "os.symlink"):
            path = _resolve(arguments[1], -1)
            if path is not None:
                self._operate("link", path)
        elif event == "os.truncate":
            path = _resolve(arguments[0], -1)
            if path is not None:
                self._operate("truncate", path)

    def _see_open(self, name: Any, mode: str | None, flags: int) -> None:
        path = _resolve(name, -1)
        if path is None:
            return
        if path in self._sentinels:
            self._write({"kind": "sentinel", "path": path, "event": "open"})
        if flags & WRITE_FLAGS and not (
            flags & os.O_ACCMODE == os.O_RDONLY and not flags & os.O_CREAT
        ):
            self._operate("open", path)

    def _operate(self, kind: str, path: str, to: str | None = None) -> None:
        if not path.startswith(self._here):
            if not path.startswith((self._root, *SYSTEM_FOLDERS)):
                self._write({"kind": "outside", "path": path, "event": kind})
            return
        if EVENTS in path and self._quietly(os.path.exists, path):
            self._act(self._count - 1, kind, path, repeat=True)
            return
        number, self._count = self._count, self._count + 1
        line: dict[str, Any] = {"n": number, "kind": kind, "path": path}
        if to is not None:
            line["to"] = to
            line["old"] = self._quietly(self._back_up, to, number)
        self._write(line)
        self._act(number, kind, path)

    def _act(self, number: int, kind: str, path: str, repeat: bool = False) -> None:
        fault = self._fault
        if (
            fault is None
            or (fault.operation is None and not fault.only)
            or number < (fault.operation or 0)
        ):
            return
        now = number == fault.operation and not repeat
        if fault.action == "error" and fault.only in path and (fault.lasting or now):
            if fault.error != errno.ENOSPC or kind in NEEDS_SPACE:
                raise OSError(fault.error, os.strerror(fault.error), path)
        elif not now:
            return
        elif fault.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault.action == "stop":
            time.sleep(3600)
        elif fault.action == "call" and fault.call is not None:
            self._quietly(fault.call)

    def _back_up(self, path: str, number: int) -> bool:
        if not os.path.isfile(path):
            return False
        status = os.stat(path)
        copy = f"{self._backups}/{number}"
        with open(path, "rb") as old, open(copy, "wb") as new:
            new.write(old.read())
        os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
        return True

    def _wrap_sync(self, sync: Callable[[Any], None]) -> Callable[[Any], None]:
        def fsync(file: Any) -> None:
            number = file if isinstance(file, int) else file.fileno()
            path = os.readlink(f"/proc/self/fd/{number}")
            if os.getpid() == self._pid:
                self._operate("fsync", path)
            sync(file)
            status = os.fstat(number)
            self._write(
                {"kind": "synced", "path": path, "dev": status.st_dev, "ino": status.st_ino, "size": status.st_size,
                 "mtime_ns": status.st_mtime_ns, "after": self._count}
            )  # fmt: skip

        return fsync

    def _quietly(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function without counting its file operations."""
        self._busy = True
        try:
            return function(*arguments)
        finally:
            self._busy = False

    def _write(self, line: dict[str, Any]) -> None:
        os.write(self._log, json.dumps(line).encode() + b"\n")


def _resolve(name: Any, folder: int | None) -> str | None:
    """Return the absolute path, without following its last part; None for a file descriptor."""
    if isinstance(name, int):
        return None
    try:
        path = os.fsdecode(name)
        if not os.path.isabs(path) and folder is not None and folder >= 0:
            path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
        head, tail = os.path.split(os.path.abspath(path))
        return os.path.join(os.path.realpath(head), tail)
    except (OSError, ValueError, TypeError):
        return None
