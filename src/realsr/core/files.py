"""Files that are written whole, last through a power cut and stay inside their folder; locks on files.

A lock ends with the process that holds it, however the process ends. Where the file system has no locks, or the system
is not POSIX, nothing is locked.
"""

import contextlib
import errno
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path, PurePath
from typing import Any, BinaryIO, cast

from realsr.core.errors import UserError

logger = logging.getLogger("realsr")

_TEMPORARY = ".realsr.tmp"
_LONGEST_NAME = 255  # bytes; of ext4, APFS, NTFS and most others
_BLOCK = 512  # bytes, a sector
_POLL_INTERVAL = 0.05  # seconds between two attempts to lock a file
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM, errno.EBADF)


def write_bytes(path: Path, data: bytes, sync: bool = True) -> None:
    """Write a file as `replace_file` does."""
    with replace_file(path, sync) as file:
        file.write(data)


@contextmanager
def replace_file(path: Path, sync: bool = True) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`, which takes its name at the end of the block, whole or not at all.

    An error or an interruption in the block leaves an older file as it is. A second process that writes the same file
    waits for the first. sync: the file and its name are on the disk at the end of the block; else see `sync_files`.

    Raises OSError, which names the file.
    """
    temporary = temporary_path(path)
    try:
        with open_locked(temporary) as file:
            try:
                yield file
                file.flush()
                if sync:
                    os.fsync(file.fileno())
                if os.name == "nt":  # where an open file cannot be renamed
                    file.close()
                temporary.replace(path)
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)
                raise
        if sync:
            _sync_folder(path.parent)
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def sync_files(paths: Iterable[Path]) -> None:
    """Put files, and their names in their folders, on the disk. Raises OSError."""
    paths = list(paths)
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    for folder in dict.fromkeys(path.parent for path in paths):
        _sync_folder(folder)


def temporary_path(path: Path) -> Path:
    """Return the name that a file has while it is written: hidden, in the same folder."""
    name = f".{path.name}{_TEMPORARY}"
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = f".{sha256(os.fsencode(path.name)).hexdigest()[:32]}{_TEMPORARY}"
    return path.with_name(name)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that dead processes have left in a folder and its sub-folders."""
    for path in folder.rglob(f".*{_TEMPORARY}"):
        with contextlib.suppress(OSError):
            if (file := _try_lock(path)) is not None:
                with file:
                    path.unlink()


@contextmanager
def open_locked(path: Path) -> Iterator[BinaryIO]:
    """Open a file, empty, that no other process writes through this function; wait while one does."""
    with _lock(path) as file:
        file.truncate(0)
        yield file


@contextmanager
def hold_lock(path: Path, work: str, wait: bool = True, advice: str = "") -> Iterator[None]:
    """Hold the lock file `path`, which is removed at the end of the block.

    Where nothing can be written, nothing is locked: no other process can write there either.

    Args:
        work: what is done in the block, for messages.
        wait: wait for the process that holds the lock. If False, raise UserError, with `advice` at its end.
    """
    try:
        file = _try_lock(path)
        if file is None:
            if not wait:
                raise UserError(f"{work}: in use by {_describe_holder(path)}. {advice}")
            logger.info("%s: waiting for %s", work, _describe_holder(path))
            file = _lock(path)
    except OSError as error:
        if error.errno not in _READ_ONLY:
            raise
        file = None
    if file is None:
        yield
        return
    with file:
        command = Path(sys.argv[0]).stem if sys.argv and sys.argv[0] else "python"
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        file.truncate(0)
        file.write(
            f"process {os.getpid()} on {socket.gethostname()} since {since} ({command})".encode()
        )
        file.flush()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()  # while it is locked, so that a process that waits for it makes a new one


def check_name(name: str) -> None:
    """Raise ValueError for a file name that is longer than file systems allow."""
    if (size := len(os.fsencode(name))) > _LONGEST_NAME:
        raise ValueError(
            f"the name {_shorten(name)} has {size} bytes, and a file name has at most {_LONGEST_NAME}: shorten the name"
        )


def check_folder_place(key: str, folder: Path, parts: Iterable[str] = ("",)) -> None:
    """Raise UserError where a folder cannot be made since a file has its name, or that of a folder above it.

    key: the key of the configuration that gives the folder; parts: subfolders of it that are to be made.
    """
    for place in (path for part in parts for path in (folder / part, *(folder / part).parents)):
        if os.path.lexists(place) and not place.is_dir():
            subject = f"{key}={folder}" if place == folder else f"{key}={folder}: {place}"
            kind = "a file" if place.exists() else "a link without a target"
            raise UserError(
                f"{subject} is {kind}, but a folder is expected: set another {key}, or move what is in the way"
            )


def is_disk_full(error: OSError) -> bool:
    """Return whether an error means that a disk or a quota has no room left, so that further files fail as well."""
    return error.errno in _DISK_FULL


def looks_lost(path: Path, with_end: bool = True) -> bool:
    """Return whether a file may have lost content in a power cut: it is empty, or its first or last block is zeros.

    A sound file can end with zeros: compare its hash then, or set `with_end` to False.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        first = file.read(_BLOCK)
        file.seek(max(0, size - _BLOCK))
        return not any(first) or (with_end and not any(file.read(_BLOCK)))


def inside(folder: Path, name: object, follow_links: bool = False) -> Path:
    """Return the path of a name that a file gives, which must lie inside `folder`.

    follow_links: whether a symbolic link in `folder`, which the user has put there, may lead elsewhere.

    Raises ValueError for a name that is absolute, leads outside of the folder by `..` or by a link, or is no file name.
    """
    path = PurePath(name) if isinstance(name, str) and "\0" not in name else PurePath()
    if not path.parts or max(len(os.fsencode(part)) for part in path.parts) > _LONGEST_NAME:
        raise ValueError(f"{_shorten(name)} is not the name of a file")
    try:
        outside = path.is_absolute() or path.drive or ".." in path.parts
        outside = outside or not (
            follow_links or (folder / path).resolve().is_relative_to(folder.resolve())
        )
    except (OSError, RuntimeError):  # RuntimeError: a link that leads to itself, before Python 3.13
        outside = True
    if outside:
        raise ValueError(f"{_shorten(name)} leads outside of {folder}, by its name or by a link")
    return folder / path


def parse_json(text: str | bytes) -> Any:
    """Return the content of a JSON text that is not trusted. Raises ValueError, for text nested too deeply as well."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _lock(path: Path) -> BinaryIO:
    while (file := _try_lock(path)) is None:
        time.sleep(_POLL_INTERVAL)
    return file


def _try_lock(path: Path) -> BinaryIO | None:
    """Open a file, made where it is missing, that no other process holds by this function; None where one does."""

    # Made by the call that opens it: between two calls another process may rename or remove it.
    def create(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_CREAT, 0o666)

    file = cast(BinaryIO, open(path, "r+b", opener=create))  # noqa: SIM115
    if os.name != "posix":
        return file
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except OSError:
        logger.debug("%s: the file system has no locks", path)
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
    file.close()  # the process that held it has renamed or removed it
    return None


def _describe_holder(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        text = ""
    return text if text.startswith("process ") else "another process"


def _shorten(name: object) -> str:
    text = repr(name)
    return text if len(text) <= 100 else f"{text[:100]}…"


def _sync_folder(folder: Path) -> None:
    try:
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:  # Windows and some network file systems cannot
            raise
