"""Directories of tags, as EXIF blocks and TIFF files hold them (TIFF 6.0, section 2; BigTIFF; Exif 2.32, section 4.6).

An EXIF block is what JPEG, PNG and WebP hold: a small TIFF without pixels. Orientation and sizes in it are corrected in
place, everything else stays byte for byte, since makers' notes hold positions in the block. TIFF files hold the same
tags among their own. Pillow's `Exif` is not used: it rewrites all directories, and writes `?` for letters that are not
ASCII.
"""

import contextlib
import struct
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

BYTE, SHORT, LONG, RATIONAL, UNDEFINED, LONG8 = (
    1,
    3,
    4,
    5,
    7,
    16,
)  # the types of values that are written here
_RATIONALS = (5, 10)  # types of values that are made of two numbers
_NUMBERS = {
    1: (1, 2, 6, 7),
    2: (3, 8),
    4: (4, 5, 9, 10, 11, 13),
    8: (12, 16, 17, 18),
}  # types by the bytes of a number
_SIZES = {
    kind: size * (2 if kind in _RATIONALS else 1)
    for size, kinds in _NUMBERS.items()
    for kind in kinds
}

_FORMS = {
    1: "B",
    3: "H",
    4: "I",
    7: "B",
    13: "I",
    16: "Q",
    18: "Q",
}  # of whole numbers without a sign, for `struct`

EXIF, GPS, INTEROPERABILITY = 34665, 34853, 40965  # tags whose value is the position of a directory
_SUBDIRECTORIES = (EXIF, GPS, INTEROPERABILITY)
_DEEPEST = 2  # interoperability in EXIF in the first directory

_ORIENTATION, _THUMBNAIL_START, _THUMBNAIL_LENGTH = 274, 513, 514
_WIDTHS = {
    None: 256,
    EXIF: 40962,
    INTEROPERABILITY: 4097,
}  # by directory; the height's tag is one more
_RESOLUTIONS, _RESOLUTION_UNIT = (282, 283), 296
INCH, CENTIMETRE = 2, 3
_PREFIX = b"Exif\0\0"

# The tags of a TIFF's first directory that describe the photo, not the layout of the file.
DESCRIPTIVE = frozenset(
    [
        269,
        270,
        271,
        272,
        282,
        283,
        296,
        305,
        306,
        315,
        316,
        33432,
        EXIF,
        GPS,
    ]  # from DocumentName to Copyright
    + [18246, 18249, *range(40091, 40096)]  # rating; title, comment, author, keywords, subject
)


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
        width = _SIZES[entry.kind] // (2 if entry.kind in _RATIONALS else 1)
        return (
            data
            if self.order == "<"
            else np.frombuffer(data, np.uint8).reshape(-1, width)[:, ::-1].tobytes()
        )

    def _number(self, form: str, position: int) -> int:
        try:
            return struct.unpack_from(self.order + form, self.data, position)[0]
        except struct.error as error:
            raise ValueError("a tag lies outside the data") from error


def integers(kind: int, *values: int) -> Value:
    """Return whole numbers as a tag's values; kind: SHORT, LONG or LONG8."""
    return Value(
        kind, struct.pack(f"<{len(values)}{ {SHORT: 'H', LONG: 'I', LONG8: 'Q'}[kind] }", *values)
    )


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
        offset = struct.pack("<" + number, end + len(after))
        if isinstance(value, dict):
            after += write_directory(value, end + len(after), big)
            kind, count, field = LONG8 if big else LONG, 1, offset
        else:
            kind, count = value.kind, len(value.data) // _SIZES[value.kind]
            field = value.data.ljust(room, b"\0")
            if len(value.data) > room:
                after, field = after + value.data, offset
        entries += struct.pack("<HH" + number, tag, kind, count) + field
    return entries + bytes(room) + after


def upright_exif(block: bytes) -> bytes:
    """Return an EXIF block for pixels that have been turned already: Orientation 1, no thumbnail, no prefix.

    Raises ValueError for what is no EXIF block.
    """
    changed = bytearray(block.removeprefix(_PREFIX))
    reader = TagReader(changed)
    if reader.big:
        raise ValueError("an EXIF block in BigTIFF's form")
    entries, next_at = reader.entries(reader.first)
    if _ORIENTATION in entries:
        _set(changed, reader, entries[_ORIENTATION], SHORT, 1)
    thumbnail = struct.unpack_from(reader.order + "I", changed, next_at)[0]
    if thumbnail:
        struct.pack_into("I", changed, next_at, 0)
        _remove_thumbnail(changed, reader, thumbnail)
    return bytes(changed)


def _remove_thumbnail(block: bytearray, reader: TagReader, position: int) -> None:
    """Cut the thumbnail off where it comes last, as it mostly does; elsewhere only blank it."""
    try:
        entries, _ = reader.entries(position)
        start = reader.integer(entries[_THUMBNAIL_START])
        end = start + reader.integer(entries[_THUMBNAIL_LENGTH])
    except (ValueError, KeyError):
        return
    if block[start : start + 2] == b"\xff\xd8" and end <= len(block):
        block[start:end] = bytes(end - start if end < len(block) else 0)


def sized_exif(block: bytes, height: int, width: int) -> bytes:
    """Return an EXIF block whose sizes in pixels, where it has any, are these."""
    changed = bytearray(block)
    reader = TagReader(changed)
    first = reader.entries(reader.first)[0]
    directories = {None: first, EXIF: _inner(reader, first, EXIF)}
    directories[INTEROPERABILITY] = _inner(reader, directories[EXIF], INTEROPERABILITY)
    for name, width_tag in _WIDTHS.items():
        for tag, side in ((width_tag, width), (width_tag + 1, height)):
            if tag in directories[name]:
                _set(changed, reader, directories[name][tag], LONG, side)
    return bytes(changed)


def _inner(reader: TagReader, entries: dict[int, Entry], tag: int) -> dict[int, Entry]:
    try:
        return reader.entries(reader.integer(entries[tag]))[0]
    except (KeyError, ValueError):  # there is none, or its position is wrong
        return {}


def _set(block: bytearray, reader: TagReader, entry: Entry, kind: int, number: int) -> None:
    """Overwrite an entry that holds one number."""
    if 0 < entry.length <= 4:  # the values stand in the entry itself, after its type and count
        form = reader.order + ("HIHxx" if kind == SHORT else "HII")
        struct.pack_into(form, block, entry.start - 6, kind, 1, number)


def resolution_exif(sides: tuple[int, ...], divisor: int, unit: int) -> bytes:
    """Return an EXIF block of a resolution: sides / divisor pixels, across and down, per unit, INCH or CENTIMETRE."""
    directory: Directory = {_RESOLUTION_UNIT: integers(SHORT, unit)}
    for tag, side in zip(_RESOLUTIONS, sides, strict=True):
        directory[tag] = Value(RATIONAL, struct.pack("<II", side, divisor))
    return _write_block(directory)


def exif_orientation(block: bytes) -> int | None:
    """Return an EXIF block's orientation, None if it cannot be read."""
    try:
        reader = TagReader(block.removeprefix(_PREFIX))
        return reader.integer(reader.entries(reader.first)[0][_ORIENTATION])
    except (KeyError, ValueError):
        return None


def exif_from_tiff(data: bytes, position: int) -> bytes | None:
    """Return the descriptive tags of the directory at `position` of a TIFF file as an EXIF block, None if none.

    Raises ValueError for tags that cannot be read.
    """
    directory = TagReader(data).read(position, DESCRIPTIVE)
    return _write_block(directory) if directory else None


def _write_block(directory: Directory) -> bytes:
    return header(8) + write_directory(directory, 8)


def tiff_tags(block: bytes) -> Directory:
    """Return an EXIF block's tags that a TIFF file may have among its own."""
    reader = TagReader(block)
    return reader.read(reader.first, DESCRIPTIVE)
