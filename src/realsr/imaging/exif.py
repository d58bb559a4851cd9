"""EXIF blocks: orientation and sizes are corrected, everything else stays byte for byte.

A block is what JPEG, PNG and WebP hold: a small TIFF without pixels. Numbers are changed in place and nothing is moved,
since makers' notes hold positions in the block. TIFF files hold the same tags among their own. Pillow's `Exif` is not
used: it writes all directories anew, and `?` for letters that are not ASCII.
"""

import struct

from realsr.imaging.tags import (
    EXIF,
    GPS,
    INTEROPERABILITY,
    LONG,
    RATIONAL,
    SHORT,
    Directory,
    Entry,
    TagReader,
    Value,
    header,
    integers,
    write_directory,
)

_ORIENTATION, _THUMBNAIL_START, _THUMBNAIL_LENGTH = 274, 513, 514
_WIDTHS = {None: 256, EXIF: 40962, INTEROPERABILITY: 4097}  # by directory; the height's tag is one more
_RESOLUTIONS, _RESOLUTION_UNIT = (282, 283), 296
INCH, CENTIMETRE = 2, 3
_PREFIX = b"Exif\0\0"

# The tags of a TIFF's first directory that describe the photo, not the layout of the file.
DESCRIPTIVE = frozenset(
    [269, 270, 271, 272, 282, 283, 296, 305, 306, 315, 316, 33432, EXIF, GPS]  # from DocumentName to Copyright
    + [18246, 18249, *range(40091, 40096)]  # rating; title, comment, author, keywords, subject
)


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
