"""Locks on files. A lock ends with the process that holds it, however the process ends."""

import contextlib
import errno
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from realsr.core.errors import UserError

logger = logging.getLogger("realsr")

_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def open_locked(path: Path) -> Iterator[BinaryIO]:
    """Open a file, empty, that no other process writes through this function; wait while one does."""
    with _acquire(path) as stream:
        stream.truncate(0)
        yield stream


@contextmanager
def hold_lock(path: Path, work: str, wait: bool = True, shared: bool = False, advice: str = "") -> Iterator[None]:
    """Hold the lock file `path`, which is removed at the end of the block.

    Where nothing can be written, nothing is locked: no other process can write there either.

    Args:
        work: what is done meanwhile, for the messages of other processes.
        wait: wait for the process that holds the lock. If False, raise UserError, with `advice` at its end.
        shared: others may hold it shared at the same time; it excludes those that do not share.
    """
    stream = None
    try:
        stream = _acquire(path, shared, work if wait else None)
    except BlockingIOError:
        raise UserError(f"{work}: in use by {describe_holder(path)}. {advice}".rstrip()) from None
    except OSError as error:
        if error.errno not in _READ_ONLY:
            raise
    if stream is None:
        yield
        return
    with stream:
        if not shared:
            stream.truncate(0)
            stream.write(json.dumps(_this_process()).encode())
            stream.flush()
        try:
            yield
        finally:
            # Removed while it is held, so that a process that waits for it sees that it has to make a new one.
            if (not shared or _lock(stream, exclusive=True, wait=False)) and _is_at(stream, path):
                with contextlib.suppress(OSError):
                    path.unlink()


def describe_holder(path: Path) -> str:
    """Return in words which process holds a lock file, as far as the file says it."""
    try:
        holder = json.loads(path.read_bytes())
        return f"process {holder['pid']} on {holder['host']} since {holder['since']} ({holder['command']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def is_locked(path: Path) -> bool:
    """Tell whether a process holds the lock on a file, shared or not."""
    try:
        with path.open("rb") as stream:
            return not _lock(stream, exclusive=True, wait=False)
    except OSError:
        return False


def _acquire(path: Path, shared: bool = False, work: str | None = "") -> BinaryIO:
    """Open a file and lock it. work: for the line that says what is waited for; None: raise BlockingIOError instead."""
    while True:
        stream = cast(BinaryIO, open(path, "r+b", opener=_open_or_make))  # noqa: SIM115 (the caller closes it)
        try:
            if not _lock(stream, not shared, wait=False):
                if work is None:
                    raise BlockingIOError
                logger.info("%s: waiting for %s", work or path, describe_holder(path))
                _lock(stream, not shared, wait=True)
            if _is_at(stream, path):
                return stream
        except BaseException:
            stream.close()
            raise
        stream.close()  # the other process has renamed or removed it: this was its file


def _open_or_make(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT, 0o666)  # in one call: in between the other process may rename it


def _is_at(stream: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except OSError:
        return False


def _lock(stream: BinaryIO, exclusive: bool, wait: bool) -> bool:
    """Lock an open file; return False where another process holds it and `wait` is False."""
    if os.name != "posix":
        return True
    import fcntl

    try:
        fcntl.flock(stream, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        logger.debug("%s: the file system has no locks", stream.name)
    return True


def _this_process() -> dict[str, str | int]:
    command = Path(sys.argv[0]).stem if sys.argv and sys.argv[0] else "python"
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since, "command": command}
