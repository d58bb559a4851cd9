"""Names of files, the same in every locale, and the files of a folder."""

import logging
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory

logger = logging.getLogger("realsr")

_CONTROL = "[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029]"  # control characters and ends of lines
_NAMES_SHOWN = 5


def encode_name(name: str | PurePath) -> bytes:
    """Return the bytes of a file's name, whatever the locale; of a text that is not such a name, its UTF-8."""
    try:
        return os.fsencode(name)
    except UnicodeEncodeError:  # characters that this locale has no bytes for
        return str(name).encode("utf-8", "surrogateescape")


def printable(name: str | PurePath) -> str:
    """Return a file's name, or a text with names in it, on one line, for tables, figures and messages.

    Bytes that are not UTF-8 are written as `\\xe9`, control characters as `\\n` or `\\x1b`.
    """
    text = encode_name(name).decode("utf-8", "backslashreplace")
    return re.sub(_CONTROL, lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def resolve_unnamed(path: Path) -> Path:
    """Return a path that ends in a name: `.`, `..` and the like resolved, others as they are."""
    return path if path.name not in ("", "..") else path.resolve()


@contextmanager
def utf8_path(path: Path) -> Iterator[Path]:
    """Give a path that libraries in C++ and Rust can open, which take UTF-8: a temporary link where need be."""
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
    """Return the files of a folder that have one of the suffixes (lower case, with dot), sorted by path.

    Log lines count and name what is left out: subfolders, other files, hidden files with such a suffix, and images with
    one of the suffixes `unread`. A link without a target is returned like a file, so that reading it names it.

    recursive: look into subfolders too. Links to folders are followed, and no folder is entered twice; a link without
    target and suffix is returned then, since it may have been a folder.

    Raises OSError where a folder cannot be listed.
    """
    files: list[Path] = []
    left_out: dict[str, list[str]] = {}
    entered: set[tuple[int, int]] = set()

    def collect(place: Path) -> None:
        status = place.stat()
        if (status.st_dev, status.st_ino) in entered:
            return
        entered.add((status.st_dev, status.st_ino))
        with os.scandir(place) as entries:
            # Links come last: a folder is named by where it is, if it is inside.
            ordered = sorted(entries, key=lambda entry: (entry.is_symlink(), entry.name))
        for entry in ordered:
            path = place / entry.name
            suffix, hidden = path.suffix.lower(), entry.name.startswith(".")
            dangling = entry.is_symlink() and not path.exists()
            if hidden and suffix not in suffixes:
                continue
            if recursive and not hidden and entry.is_dir():
                collect(path)
            elif not hidden and (
                (suffix in suffixes and (dangling or entry.is_file()))
                or (dangling and recursive and not suffix)
            ):
                files.append(path)
            else:
                kind = (
                    "subfolder" if entry.is_dir() else "image" if suffix in unread else "other file"
                )
                left_out.setdefault(kind, []).append(path.relative_to(folder).as_posix())

    collect(folder)
    if images := left_out.pop("image", None):
        line = f"{folder}: {_count('image', images)} of formats that are not read: convert them to PNG or TIFF"
        _log_once(line, logging.WARNING)
    if left_out:
        _log_once(
            f"{folder}: left out: {'; '.join(_count(kind, names) for kind, names in left_out.items())}"
        )
    return sorted(files)


def _count(noun: str, names: list[str]) -> str:
    more = ", …" if len(names) > _NAMES_SHOWN else ""
    plural = "s" if len(names) > 1 else ""
    return f"{len(names)} {noun}{plural} ({', '.join(sorted(names)[:_NAMES_SHOWN])}{more})"


@cache  # since several stages of a command list the same folder
def _log_once(line: str, level: int = logging.INFO) -> None:
    logger.log(level, "%s", line)
