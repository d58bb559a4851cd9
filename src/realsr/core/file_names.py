"""Locale-independent file names, and lists of the files of a folder."""

import logging
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory

logger = logging.getLogger("realsr")

_CONTROL = "[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029]"  # control characters and line separators
_MAX_NAMES = 5  # file names in a log line


def encode_name(name: str | PurePath) -> bytes:
    """Return the bytes of a file name in any locale, or UTF-8 if it is not a file name."""
    try:
        return os.fsencode(name)
    except UnicodeEncodeError:  # the locale cannot encode a character
        return str(name).encode("utf-8", "surrogateescape")


def printable(name: str | PurePath) -> str:
    """Return a file name, or a text with file names, as one line for tables, figures and messages.

    Bytes that are not UTF-8 become `\\xe9`, control characters `\\n` or `\\x1b`.
    """
    text = encode_name(name).decode("utf-8", "backslashreplace")
    return re.sub(_CONTROL, lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def resolve_unnamed(path: Path) -> Path:
    """Return a path that ends in a name: `.` and `..` are resolved, other paths unchanged."""
    return path if path.name not in ("", "..") else path.resolve()


@contextmanager
def utf8_path(path: Path) -> Iterator[Path]:
    """Yield a path for C++ and Rust libraries, which need UTF-8: a temporary link if necessary."""
    if str(path).encode("utf-8", "replace") == os.fsencode(path):
        yield path
        return
    with TemporaryDirectory(prefix="realsr_") as folder:
        link = Path(folder, "link").with_suffix(path.suffix if path.suffix.isascii() else "")
        link.symlink_to(path.absolute())
        yield link


def list_files(
    folder: Path, suffixes: Collection[str], recursive: bool = False, unread: Collection[str] = ()
) -> list[Path]:
    """Return the files of a folder with one of the suffixes (lower case, with dot), sorted by path.

    Skipped entries are counted and named in the log: subfolders, other files, hidden files with such
    a suffix, and images with one of the suffixes `unread`. A link without a target is returned like
    a file, so that the reader reports it.

    recursive: search subfolders too. Links to folders are followed, and no folder is visited twice. A
    link without target and suffix is returned as well, since its target may have been a folder.

    Raises OSError if a folder cannot be listed.
    """
    files: list[Path] = []
    skipped_names: dict[str, list[str]] = {}
    for path, entry in _scan(folder, recursive, set()):
        suffix, is_hidden = path.suffix.lower(), entry.name.startswith(".")
        if is_hidden and suffix not in suffixes:
            continue
        is_dangling = entry.is_symlink() and not path.exists()
        is_file = suffix in suffixes and (is_dangling or entry.is_file())
        if not is_hidden and (is_file or (is_dangling and recursive and not suffix)):
            files.append(path)
        else:
            kind = "subfolder" if entry.is_dir() else "image" if suffix in unread else "other file"
            skipped_names.setdefault(kind, []).append(path.relative_to(folder).as_posix())
    if images := skipped_names.pop("image", None):
        text = f"{_count('image', images)} in unsupported formats: convert to PNG or TIFF"
        _log_once(f"{folder}: {text}", logging.WARNING)
    if skipped_names:
        text = "; ".join(_count(kind, names) for kind, names in skipped_names.items())
        _log_once(f"{folder}: skipped: {text}")
    return sorted(files)


def _scan(
    folder: Path, recursive: bool, visited: set[tuple[int, int]]
) -> Iterator[tuple[Path, os.DirEntry[str]]]:
    """Yield a folder's entries and, if recursive, those of its visible subfolders in their place."""
    status = folder.stat()
    if (status.st_dev, status.st_ino) in visited:
        return
    visited.add((status.st_dev, status.st_ino))
    with os.scandir(folder) as iterator:
        # Links come last, so that a folder inside is listed by its real path.
        entries = sorted(iterator, key=lambda entry: (entry.is_symlink(), entry.name))
    for entry in entries:
        path = folder / entry.name
        if recursive and not entry.name.startswith(".") and entry.is_dir():
            yield from _scan(path, recursive, visited)
        else:
            yield path, entry


def _count(noun: str, names: list[str]) -> str:
    ending = ", …" if len(names) > _MAX_NAMES else ""
    plural = "s" if len(names) > 1 else ""
    return f"{len(names)} {noun}{plural} ({', '.join(sorted(names)[:_MAX_NAMES])}{ending})"


@cache  # several stages of a command list the same folder
def _log_once(line: str, level: int = logging.INFO) -> None:
    logger.log(level, "%s", line)
