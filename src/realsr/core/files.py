"""Atomic and durable file writing, checks of paths, and file locks.

A lock is released when its process ends, for any reason. Nothing is locked on file systems without
locks and on systems other than POSIX.
"""

import contextlib
import errno
import json
import logging
import math
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
_MAX_NAME = 255  # bytes; of ext4, APFS, NTFS and most others
_BLOCK = 512  # bytes, a sector
_POLL_INTERVAL = 0.05  # seconds between two attempts to lock a file
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM, errno.EBADF)


def write_bytes(path: Path, data: bytes, sync: bool = True) -> None:
    """Write a file atomically, see `replace_file`."""
    with replace_file(path, sync) as file:
        file.write(data)


def write_strict_json(path: Path, content: Any) -> None:
    """Write JSON that every program reads, atomically; the folder is created if necessary.

    Infinite numbers and nan become null, a lone surrogate in a name an escape such as \\udce9.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_finite(content), indent=1, allow_nan=False, ensure_ascii=False)
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def replace_file(path: Path, sync: bool = True) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`, and rename it to `path` at the end of the block.

    After an error or an interruption in the block, an older file is unchanged. A second process that
    writes the same file waits for the first.

    sync: flush the file and its name to disk at the end of the block; if False, see `sync_files`.

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
                if os.name == "nt":  # Windows cannot rename an open file
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
    """Flush files and their folder entries to disk. Raises OSError."""
    paths = list(paths)
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    for folder in dict.fromkeys(path.parent for path in paths):
        _sync_folder(folder)


def temporary_path(path: Path) -> Path:
    """Return the temporary path of a file that is being written: hidden, in the same folder."""
    name = f".{path.name}{_TEMPORARY}"
    if len(os.fsencode(name)) > _MAX_NAME:
        name = f".{sha256(os.fsencode(path.name)).hexdigest()[:32]}{_TEMPORARY}"
    return path.with_name(name)


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files of terminated processes from a folder and its subfolders."""
    for path in folder.rglob(f".*{_TEMPORARY}"):
        with contextlib.suppress(OSError):
            if (file := _try_lock(path)) is not None:
                with file:
                    path.unlink()


@contextmanager
def open_locked(path: Path) -> Iterator[BinaryIO]:
    """Open an empty file with an exclusive lock; wait while another process holds it."""
    with _lock(path) as file:
        file.truncate(0)
        yield file


@contextmanager
def hold_lock(path: Path, work: str, wait: bool = True, advice: str = "") -> Iterator[None]:
    """Hold the lock file `path`, which is removed at the end of the block.

    A read-only folder is not locked, since no other process can write there either.

    Args:
        work: the work in the block, for messages.
        wait: wait for the process that holds the lock. If False, raise UserError, which ends with
            `advice`.
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
                path.unlink()  # while locked, so that a process that waits for it makes a new one


def check_name(name: str) -> None:
    """Raise ValueError for a file name that is longer than file systems allow."""
    if (size := len(os.fsencode(name))) > _MAX_NAME:
        raise ValueError(
            f"the name {_shorten(name)} has {size} bytes, at most {_MAX_NAME} are allowed: shorten it"
        )


def check_folder_place(key: str, folder: Path, parts: Iterable[str] = ()) -> None:
    """Raise UserError if a folder cannot be made because its path, or a parent, is a file.

    key: the config key of the folder. parts: the subfolders to be made.
    """
    folders = [folder / part for part in ("", *parts)]
    for place in (path for folder in folders for path in (folder, *folder.parents)):
        if os.path.lexists(place) and not place.is_dir():
            subject = f"{key}={folder}" if place == folder else f"{key}={folder}: {place}"
            kind = "a file" if place.exists() else "a link without a target"
            raise UserError(
                f"{subject} is {kind}, but a folder is expected: set another {key} or move {kind}"
            )


def is_disk_full(error: OSError) -> bool:
    """Return whether an error means a full disk or quota, so that further writes fail as well."""
    return error.errno in _DISK_FULL


def looks_lost(path: Path, with_end: bool = True) -> bool:
    """Return whether a power cut may have damaged a file: it is empty, or a block is all zeros.

    The first block is checked and, if `with_end`, the last. A valid file can end with zeros: compare
    its hash then, or set `with_end` to False.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        first = file.read(_BLOCK)
        file.seek(max(0, size - _BLOCK))
        return not any(first) or (with_end and not any(file.read(_BLOCK)))


def inside(folder: Path, name: object, follow_links: bool = False) -> Path:
    """Return the path of an untrusted file name, which must lie inside `folder`.

    follow_links: whether a symbolic link in `folder`, which only the user can create, may lead
        outside.

    Raises ValueError for a name that is absolute, leads outside the folder by `..` or a link, or is
    not a file name.
    """
    path = PurePath(name) if isinstance(name, str) and "\0" not in name else PurePath()
    if not path.parts or max(len(os.fsencode(part)) for part in path.parts) > _MAX_NAME:
        raise ValueError(f"{_shorten(name)} is not the name of a file")
    try:
        leads_outside = path.is_absolute() or path.drive or ".." in path.parts
        leads_outside = leads_outside or not (
            follow_links or (folder / path).resolve().is_relative_to(folder.resolve())
        )
    except (OSError, RuntimeError):  # RuntimeError: a link that leads to itself, before Python 3.13
        leads_outside = True
    if leads_outside:
        raise ValueError(f"{_shorten(name)} leads outside {folder}, by its name or by a link")
    return folder / path


def parse_json(text: str | bytes) -> Any:
    """Return the content of an untrusted JSON text. Raises ValueError, also for deep nesting."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _lock(path: Path) -> BinaryIO:
    while (file := _try_lock(path)) is None:
        time.sleep(_POLL_INTERVAL)
    return file


def _try_lock(path: Path) -> BinaryIO | None:
    """Open or create a file with an exclusive lock; None if another process holds it."""

    # One call creates and opens: between two calls another process may rename or remove the file.
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
    file.close()  # the previous holder renamed or removed the file
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
        if error.errno not in _NO_FOLDER_SYNC:  # unsupported on Windows and some network drives
            raise
