"""A file that one process at a time may write."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

logger = logging.getLogger("realsr")


@contextmanager
def claim(temporary: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file, empty, that no other process writes; wait while one does."""
    while True:
        with open(temporary, "r+b", opener=_open_or_make) as stream:
            _lock(stream)
            if _is_at(stream, temporary):
                stream.truncate(0)
                yield stream
                return
        # The other process has renamed or removed it: this was its file.


def _open_or_make(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT, 0o666)  # in one, since between two the other process may rename it


def _is_at(stream: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _lock(stream: IO[bytes]) -> None:
    if os.name != "posix":
        return
    import fcntl

    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        logger.info("%s: another process is making this; waiting for it", stream.name)
        fcntl.flock(stream, fcntl.LOCK_EX)
    except OSError:  # a file system without locks: as good as it can be
        logger.debug("%s: no locks on this file system", stream.name)
