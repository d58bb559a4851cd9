"""Directories of tags as TIFF files and EXIF blocks hold them, read and written without interpreting their values.

TIFF 6.0, section 2; BigTIFF; Exif 2.32, section 4.6. Pillow's own form of them loses what is not ASCII.
"""

import contextlib
import struct
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

BYTE, SHORT, LONG, RATIONAL, UNDEFINED, LONG8 = 1, 3, 4, 5, 7, 16  # the types of values that are written here
_RATIONALS = (5, 10)  # types of values that are made of two numbers
_NUMBERS = {1: (1, 2, 6, 7), 2: (3, 8), 4: (4, 5, 9, 10, 11, 13), 8: (12, 16, 17, 18)}  # types by the bytes of a number
_SIZES = {kind: size * (2 if kind in _RATIONALS else 1) for size, kinds in _NUMBERS.items() for kind in kinds}

_FORMS = {1: "B", 3: "H", 4: "I", 7: "B", 13: "I", 16: "Q", 18: "Q"}  # of whole numbers without a sign, for `struct`

EXIF, GPS, INTEROPERABILITY = 34665, 34853, 40965  # tags whose value is the position of a directory
_SUBDIRECTORIES = (EXIF, GPS, INTEROPERABILITY)
_DEEPEST = 2  # interoperability in EXIF in the first directory


@dataclass(frozen=True)
class Value:
    """A tag's values: their TIFF type and their bytes, numbers in little-endian order."""

    kind: int
    data: bytes


Directory: TypeAlias = "dict[int, Value | Directory]"


class Entry(NamedTuple):
    """Where in the data a tag's values are: their TIFF type, first byte, and length in bytes."""

    kind: int
    start: int
    length: int


class TagReader:
    """Finds the tags in a TIFF file's contents or an EXIF block.

    order: "<" or ">", the byte order; first: the position of the first directory. Raises ValueError for data that
    begin otherwise, and where a directory lies outside them.
    """

    def __init__(self, data: bytes | bytearray):
        orders = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}
        magic = bytes(data[:4])
        if magic not in orders:
            raise ValueError("no TIFF header")
        self.data, self.order, self.big = data, orders[magic], b"+" in magic
        self.first = self._number("Q", 8) if self.big else self._number("I", 4)

    def entries(self, position: int) -> tuple[dict[int, Entry], int]:
        """Return a directory's entries by tag, and where the position of the next directory is stored."""
        count = self._number("Q" if self.big else "H", position)
        at, step, room = (position + 8, 20, 8) if self.big else (position + 2, 12, 4)
        if at + count * step + room > len(self.data):
            raise ValueError("a directory of tags is cut short")
        entries_by_tag: dict[int, Entry] = {}
        for entry in range(at, at + count * step, step):
            tag, kind = self._number("H", entry), self._number("H", entry + 2)
            values = entry + step - room
            length = _SIZES.get(kind, 0) * self._number("Q" if self.big else "I", entry + 4)
            start = values if length <= room else self._number("Q" if self.big else "I", values)
            if kind in _SIZES and start + length <= len(self.data):
                entries_by_tag.setdefault(tag, Entry(kind, start, length))
        return entries_by_tag, at + count * step

    def integer(self, entry: Entry) -> int:
        """Return an entry's first value. Raises ValueError if that is no whole number without a sign."""
        if entry.kind not in _FORMS or not entry.length:
            raise ValueError("a tag's value is no whole number")
        return self._number(_FORMS[entry.kind], entry.start)

    def read(self, position: int, tags: Collection[int] | None = None, depth: int = 0) -> Directory:
        """Return a directory with the directories in it; tags: only these of the outer one.

        Of the directories in it, those that cannot be read are left out: some programs write wrong positions.
        """
        directory: Directory = {}
        for tag, entry in self.entries(position)[0].items():
            if tags is not None and tag not in tags:
                continue
            if tag not in _SUBDIRECTORIES:
                directory[tag] = Value(entry.kind, self._little_endian(entry))
            elif depth < _DEEPEST:
                with contextlib.suppress(ValueError):
                    directory[tag] = self.read(self.integer(entry), depth=depth + 1)
        return directory

    def _little_endian(self, entry: Entry) -> bytes:
        data = bytes(self.data[entry.start : entry.start + entry.length])
        each = _SIZES[entry.kind] // (2 if entry.kind in _RATIONALS else 1)
        return data if self.order == "<" else np.frombuffer(data, np.uint8).reshape(-1, each)[:, ::-1].tobytes()

    def _number(self, form: str, position: int) -> int:
        try:
            return struct.unpack_from(self.order + form, self.data, position)[0]
        except struct.error as error:
            raise ValueError("a tag lies outside the data") from error


def integers(kind: int, *values: int) -> Value:
    """Return whole numbers as a tag's values; kind: SHORT, LONG or LONG8."""
    return Value(kind, struct.pack(f"<{len(values)}{ {SHORT: 'H', LONG: 'I', LONG8: 'Q'}[kind] }", *values))


def header(first: int, big: bool = False) -> bytes:
    """Return the beginning of a TIFF file whose first directory is at `first`: 8 bytes, 16 of a BigTIFF."""
    return b"II" + (struct.pack("<HHHQ", 43, 8, 0, first) if big else struct.pack("<HI", 42, first))


def write_directory(directory: Directory, position: int, big: bool = False) -> bytes:
    """Return a directory as it stands at the even `position`, followed by its long values and its directories."""
    number, room = ("Q", 8) if big else ("I", 4)
    entries = struct.pack("<Q" if big else "<H", len(directory))
    after, end = b"", position + len(entries) + len(directory) * (20 if big else 12) + room
    for tag, value in sorted(directory.items()):
        after += b"\0" * ((end + len(after)) % 2)
        here = struct.pack("<" + number, end + len(after))
        if isinstance(value, dict):
            after += write_directory(value, end + len(after), big)
            kind, count, field = LONG8 if big else LONG, 1, here
        else:
            kind, count = value.kind, len(value.data) // _SIZES[value.kind]
            field = value.data.ljust(room, b"\0")
            if len(value.data) > room:
                after, field = after + value.data, here
        entries += struct.pack("<HH" + number, tag, kind, count) + field
    return entries + bytes(room) + after
