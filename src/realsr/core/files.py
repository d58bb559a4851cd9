"""Files that are written whole, last through a power cut, and stay inside their folder."""

import contextlib
import errno
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path, PurePath
from typing import Any, BinaryIO

from realsr.core.errors import UserError
from realsr.core.file_lock import is_locked, open_locked

_TEMPORARY = ".realsr.tmp"
_LONGEST_NAME = 255  # bytes; of ext4, APFS, NTFS and most others
_BLOCK = 512  # bytes, a sector
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM, errno.EBADF)


def write_bytes(path: Path, data: bytes, sync: bool = True) -> None:
    """Write a file as `replace_file` does."""
    with replace_file(path, sync) as file:
        file.write(data)


@contextmanager
def replace_file(path: Path, sync: bool = True) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`, which takes its name at the end of the block, whole or not at all.

    An error or an interruption in the block leaves an older file as it is. A second process that writes the same file
    waits for the first. sync: the file and its name are on the disk at the end of the block, and so last through a
    power cut; else see `sync_files`.

    Raises OSError, which names the file.
    """
    path = Path(path)
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
            except BaseException:  # an interruption by the keyboard leaves nothing behind either
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
    """Tell whether an error says that a disk or a quota has no room left, which holds for all further files, too."""
    return error.errno in _DISK_FULL


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that dead processes have left in a folder and its sub-folders."""
    for path in folder.rglob(f".*{_TEMPORARY}"):
        if not is_locked(path):
            path.unlink(missing_ok=True)


def looks_lost(path: Path, with_end: bool = True) -> bool:
    """Tell whether a file may have lost content in a power cut: it is empty, or begins or (`with_end`) ends with zeros.

    A sound file can end with zeros. So that is a reason to compare its hash, not a proof.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        begin = file.read(_BLOCK)
        file.seek(max(0, size - _BLOCK))
        return not any(begin) or (with_end and not any(file.read(_BLOCK)))


def inside(folder: Path, name: object, follow_links: bool = False) -> Path:
    """Return the path of a name that a file gives, which must lie inside `folder`.

    follow_links: whether a symbolic link in `folder`, which the user has put there, may lead elsewhere.

    Raises ValueError for a name that is absolute, leads outside of the folder by `..` or by a link, or is no file name.
    """
    path = PurePath(name) if isinstance(name, str) and "\0" not in name else PurePath()
    if not path.parts or max(len(os.fsencode(part)) for part in path.parts) > _LONGEST_NAME:
        raise ValueError(f"{_shorten(name)} is not the name of a file")
    if path.is_absolute() or path.drive or ".." in path.parts:
        raise ValueError(f"{_shorten(name)} leads outside of {folder}")
    if not follow_links and not _resolve(folder / path).is_relative_to(folder.resolve()):
        raise ValueError(f"{_shorten(name)} is a link that leads outside of {folder}")
    return folder / path


def parse_json(text: str | bytes) -> Any:
    """Return the content of a JSON text that is not trusted. Raises ValueError, for text nested too deeply as well."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _shorten(name: object) -> str:
    text = repr(name)
    return text if len(text) <= 100 else f"{text[:100]}…"


def _resolve(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: a link that leads to itself, before Python 3.13
        raise ValueError(f"{path} is a link that cannot be followed") from error


def _sync_folder(folder: Path) -> None:
    try:
        number = os.open(folder, os.O_RDONLY)
    except OSError as error:
        if error.errno in _NO_FOLDER_SYNC:  # as on Windows
            return
        raise
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:  # some network file systems cannot
            raise
    finally:
        os.close(number)
