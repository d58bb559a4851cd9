"""Names of files as bytes for hashes and as text for people, the same in every locale."""

import os
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory

_ESCAPED = ("Cc", "Cs", "Zl", "Zp")  # Unicode's categories of control characters, lone surrogates, ends of lines


def encode_name(name: str | PurePath) -> bytes:
    """Return the bytes of a file's name, whatever the locale; of a text that is not such a name, its UTF-8."""
    try:
        return os.fsencode(name)
    except UnicodeEncodeError:  # characters that this locale has no bytes for
        return str(name).encode("utf-8", "surrogateescape")


def printable(name: str | PurePath) -> str:
    """Return a file's name, or a text with names in it, on one line: what is no text becomes an escape.

    Bytes that are not UTF-8 are written as `\\xe9`, control characters as `\\n` or `\\x1b`. For tables, pictures and
    messages; a file that is derived from another keeps the bytes of its name.
    """
    text = encode_name(name).decode("utf-8", "surrogateescape")
    return "".join(_escape(letter) if unicodedata.category(letter) in _ESCAPED else letter for letter in text)


def resolve_unnamed(path: Path) -> Path:
    """Return a path that ends in a name: `.`, `..` and the like resolved, others as they are."""
    return path if path.name not in ("", "..") else path.resolve()


@contextmanager
def utf8_path(path: Path) -> Iterator[Path]:
    """Give a path by which libraries in C++ and Rust find a file or folder: a temporary link where need be.

    They take a path as UTF-8, which its name or the locale may not be.
    """
    if str(path).encode("utf-8", "replace") == os.fsencode(path):
        yield path
        return
    with TemporaryDirectory(prefix="realsr_") as folder:
        link = Path(folder, "link").with_suffix(path.suffix if path.suffix.isascii() else "")
        link.symlink_to(path.absolute())
        yield link


def _escape(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":  # a byte, as `surrogateescape` keeps it
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode("ascii")
