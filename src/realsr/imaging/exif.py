"""Tag directories of EXIF blocks and TIFF files (TIFF 6.0, section 2; Exif 2.32, section 4.6).

An EXIF block, as in JPEG, PNG and WebP, is a small TIFF without pixels. Its orientation and sizes
are corrected in place. All other bytes are preserved, since maker notes contain positions in the
block. TIFF files, including BigTIFF, hold the same tags among their own. Pillow's `Exif` is not
used, since it rewrites all directories and replaces characters that are not ASCII by `?`.
"""

import contextlib
import struct
from collections.abc import Collection
from typing import NamedTuple, TypeAlias

import numpy as np
from tifffile import TIFF

BYTE, SHORT, LONG, RATIONAL, UNDEFINED, LONG8 = 1, 3, 4, 5, 7, 16  # TIFF types of values
# By type, the number and the form of its values in `struct`, such as "2I" for a rational.
_FORMS = TIFF.DATA_FORMATS
_SIZES = {kind: struct.calcsize(f"<{form}") for kind, form in _FORMS.items()}

ICC, XMP, IPTC = 34675, 700, 33723
EXIF, GPS, INTEROPERABILITY = 34665, 34853, 40965  # tags whose value is the position of a directory
_SUBDIRECTORIES = (EXIF, GPS, INTEROPERABILITY)
_MAX_DEPTH = 2  # of Interoperability, in EXIF in the first directory

_ORIENTATION, _THUMBNAIL_START, _THUMBNAIL_LENGTH = 274, 513, 514
# Tags of the width by directory; the tag of the height is the next number.
_WIDTHS = {None: 256, EXIF: 40962, INTEROPERABILITY: 4097}
_RESOLUTIONS, _RESOLUTION_UNIT = (282, 283), 296
INCH, CENTIMETRE = 2, 3
_PREFIX = b"Exif\0\0"

# The tags of a TIFF's first directory that describe the photo, not the layout of the file:
# DocumentName to Copyright; rating; title, comment, author, keywords, subject.
DESCRIPTIVE = frozenset(
    [269, 270, 271, 272, 282, 283, 296, 305, 306, 315, 316, 33432, EXIF, GPS]
    + [18246, 18249, *range(40091, 40096)]
)


class Value(NamedTuple):
    """The values of a tag: their TIFF type and their bytes in little-endian order."""

    kind: int
    data: bytes


Directory: TypeAlias = "dict[int, Value | Directory]"


class Entry(NamedTuple):
    """The location of a tag's values in the data: TIFF type, first byte, and length in bytes."""

    kind: int
    start: int
    length: int


class TagReader:
    """Reads the tags of a TIFF file's contents or of an EXIF block.

    order: byte order, "<" or ">"; first: position of the first directory. Raises ValueError for
    data without a TIFF header and for a directory outside the data.
    """

    def __init__(self, data: bytes | bytearray):
        orders = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}
        magic = bytes(data[:4])
        if magic not in orders:
            raise ValueError("no TIFF header")
        self.data, self.order, self.big = data, orders[magic], b"+" in magic
        self.first = self._number("Q", 8) if self.big else self._number("I", 4)

    def entries(self, position: int) -> tuple[dict[int, Entry], int]:
        """Return a directory's entries by tag, and the position of the next directory's link."""
        count = self._number("Q" if self.big else "H", position)
        number, first, step, field = (
            ("Q", position + 8, 20, 8) if self.big else ("I", position + 2, 12, 4)
        )
        end = first + count * step
        if end + field > len(self.data):
            raise ValueError("a tag directory is truncated")
        entries_by_tag: dict[int, Entry] = {}
        for entry in range(first, end, step):
            tag, kind = self._number("H", entry), self._number("H", entry + 2)
            values = entry + step - field
            length = _SIZES.get(kind, 0) * self._number(number, entry + 4)
            start = values if length <= field else self._number(number, values)
            if kind in _SIZES and start + length <= len(self.data):
                entries_by_tag.setdefault(tag, Entry(kind, start, length))
        return entries_by_tag, end

    def integer(self, entry: Entry) -> int:
        """Return an entry's first value. Raises ValueError unless it is an unsigned integer."""
        form = _FORMS[entry.kind].removeprefix("1")
        if form not in "BHIQ" or not entry.length:
            raise ValueError("a tag's value is no whole number")
        return self._number(form, entry.start)

    def read(self, position: int, tags: Collection[int] | None = None, depth: int = 0) -> Directory:
        """Return a directory with its subdirectories; tags: the tags to read of the outermost one.

        Subdirectories that cannot be read are left out, since some programs write wrong positions.
        """
        directory: Directory = {}
        for tag, entry in self.entries(position)[0].items():
            if tags is not None and tag not in tags:
                continue
            if tag not in _SUBDIRECTORIES:
                directory[tag] = Value(entry.kind, self._little_endian(entry))
            elif depth < _MAX_DEPTH:
                with contextlib.suppress(ValueError):
                    directory[tag] = self.read(self.integer(entry), depth=depth + 1)
        return directory

    def _little_endian(self, entry: Entry) -> bytes:
        data = bytes(self.data[entry.start : entry.start + entry.length])
        if self.order == "<":
            return data
        width = struct.calcsize(f"<{_FORMS[entry.kind][1:]}")
        return np.frombuffer(data, np.uint8).reshape(-1, width)[:, ::-1].tobytes()

    def _number(self, form: str, position: int) -> int:
        try:
            return struct.unpack_from(self.order + form, self.data, position)[0]
        except struct.error as error:
            raise ValueError("a tag lies outside the data") from error


def integers(kind: int, *values: int) -> Value:
    """Return integers as the values of a tag; kind: SHORT, LONG or LONG8."""
    return Value(kind, struct.pack(f"<{len(values)}{_FORMS[kind][1:]}", *values))


def header(first: int, big: bool = False) -> bytes:
    """Return a TIFF header (8 bytes; BigTIFF: 16); first: position of the first directory."""
    return b"II" + (struct.pack("<HHHQ", 43, 8, 0, first) if big else struct.pack("<HI", 42, first))


def write_directory(directory: Directory, position: int, big: bool = False) -> bytes:
    """Return a directory for an even `position`, followed by its long values and subdirectories."""
    number, step, size = ("Q", 20, 8) if big else ("I", 12, 4)
    entries = struct.pack("<Q" if big else "<H", len(directory))
    tail, end = b"", position + len(entries) + len(directory) * step + size
    for tag, value in sorted(directory.items()):
        tail += b"\0" * ((end + len(tail)) % 2)
        offset = struct.pack("<" + number, end + len(tail))
        if isinstance(value, dict):
            tail += write_directory(value, end + len(tail), big)
            kind, count, field = LONG8 if big else LONG, 1, offset
        else:
            kind, count = value.kind, len(value.data) // _SIZES[value.kind]
            field = value.data.ljust(size, b"\0")
            if len(value.data) > size:
                tail, field = tail + value.data, offset
        entries += struct.pack("<HH" + number, tag, kind, count) + field
    return entries + bytes(size) + tail


def upright_exif(block: bytes) -> bytes:
    """Return an EXIF block for upright pixels: Orientation 1, no thumbnail, no prefix.

    Raises ValueError for data that are not an EXIF block.
    """
    result = bytearray(block.removeprefix(_PREFIX))
    reader = TagReader(result)
    if reader.big:
        raise ValueError("an EXIF block in BigTIFF format")
    entries, link = reader.entries(reader.first)
    if _ORIENTATION in entries:
        _set(result, reader, entries[_ORIENTATION], SHORT, 1)
    thumbnail = struct.unpack_from(reader.order + "I", result, link)[0]
    if thumbnail:
        struct.pack_into("I", result, link, 0)
        _remove_thumbnail(result, reader, thumbnail)
    return bytes(result)


def _remove_thumbnail(block: bytearray, reader: TagReader, position: int) -> None:
    """Remove the thumbnail if it ends the block, as it usually does; otherwise zero its bytes."""
    try:
        entries, _ = reader.entries(position)
        start = reader.integer(entries[_THUMBNAIL_START])
        end = start + reader.integer(entries[_THUMBNAIL_LENGTH])
    except (ValueError, KeyError):
        return
    if block[start : start + 2] == b"\xff\xd8" and end <= len(block):
        block[start:end] = bytes(end - start if end < len(block) else 0)


def sized_exif(block: bytes, height: int, width: int) -> bytes:
    """Return an EXIF block with height and width in place of any image size that it states."""
    result = bytearray(block)
    reader = TagReader(result)
    first = reader.entries(reader.first)[0]
    directories = {None: first, EXIF: _subdirectory(reader, first, EXIF)}
    directories[INTEROPERABILITY] = _subdirectory(reader, directories[EXIF], INTEROPERABILITY)
    for name, width_tag in _WIDTHS.items():
        for tag, side in ((width_tag, width), (width_tag + 1, height)):
            if tag in directories[name]:
                _set(result, reader, directories[name][tag], LONG, side)
    return bytes(result)


def _subdirectory(reader: TagReader, entries: dict[int, Entry], tag: int) -> dict[int, Entry]:
    try:
        return reader.entries(reader.integer(entries[tag]))[0]
    except (KeyError, ValueError):  # it is missing, or its position is wrong
        return {}


def _set(block: bytearray, reader: TagReader, entry: Entry, kind: int, number: int) -> None:
    """Overwrite the value of an entry that holds one number."""
    if 0 < entry.length <= 4:  # the value is in the entry itself, after its type and count
        form = reader.order + ("HIHxx" if kind == SHORT else "HII")
        struct.pack_into(form, block, entry.start - 6, kind, 1, number)


def resolution_exif(pixels: tuple[int, ...], divisor: int, unit: int) -> bytes:
    """Return an EXIF block that states a resolution.

    pixels: horizontal and vertical; pixels / divisor is the number per unit, INCH or CENTIMETRE.
    """
    directory: Directory = {_RESOLUTION_UNIT: integers(SHORT, unit)}
    for tag, number in zip(_RESOLUTIONS, pixels, strict=True):
        directory[tag] = Value(RATIONAL, struct.pack("<II", number, divisor))
    return _write_block(directory)


def exif_orientation(block: bytes) -> int | None:
    """Return the orientation in an EXIF block; None if it cannot be read."""
    try:
        reader = TagReader(block.removeprefix(_PREFIX))
        return reader.integer(reader.entries(reader.first)[0][_ORIENTATION])
    except (KeyError, ValueError):
        return None


def exif_from_tiff(data: bytes, position: int) -> bytes | None:
    """Return the descriptive tags of a TIFF directory as an EXIF block; None if it has none.

    data: contents of the file; position: that of the directory. Raises ValueError for tags that
    cannot be read.
    """
    directory = TagReader(data).read(position, DESCRIPTIVE)
    return _write_block(directory) if directory else None


def _write_block(directory: Directory) -> bytes:
    return header(8) + write_directory(directory, 8)


def tiff_tags(block: bytes) -> Directory:
    """Return the tags of an EXIF block that a TIFF file can hold among its own."""
    reader = TagReader(block)
    return reader.read(reader.first, DESCRIPTIVE)
