"""The strips and tiles of a TIFF file: libraries take each out of its compression, the rest is done here."""

import io
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from realsr.imaging.decoding import DamageError, content_error
from realsr.imaging.jpeg import decode_jpeg_samples
from realsr.imaging.tags import LONG, SHORT, Directory, TagReader, header, integers, write_directory
from realsr.imaging.tiff_layout import DEFLATE, FAX, JPEG, NONE, WEBP, YCBCR, TiffLayout

_JPEG_TABLES, _FAX_OPTIONS = 347, (292, 293)
_ADOBE = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0"  # a segment of JPEG, before its last byte: 0 as stored, 1 YCbCr
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_PIECE = 2**16
_GROUP = 2**24  # bytes of strips or tiles that libtiff decompresses at once


def read_segments(data: bytes, layout: TiffLayout, name: str, damaged: str) -> Iterator[tuple[np.ndarray, str | None]]:
    """Yield the bytes of all strips or tiles as uint8, each with what is wrong with it."""
    (height, width, channels), (high, wide) = layout.shape, layout.segment
    rows = [high if layout.tiled else min(high, height - top) for top in range(0, height, high)]
    rows = [count for count in rows for _ in range(-(-width // wide))]
    for plane in range(channels if layout.planar else 1):
        here = slice(plane * len(rows), (plane + 1) * len(rows))
        sizes = [_segment_size(layout, count) for count in rows]
        lengths = sizes if layout.compression == NONE else layout.lengths[here]  # which some programs leave out
        parts = [memoryview(data)[s : s + n] for s, n in zip(layout.starts[here], lengths, strict=True)]
        if layout.bits_reversed and layout.compression not in (JPEG, WEBP):
            parts = [memoryview(bytes(part).translate(_REVERSED)) for part in parts]
        if layout.compression in (NONE, *DEFLATE, JPEG, WEBP):
            for part, size in zip(parts, sizes, strict=True):
                yield _decode_segment(part, size, layout, data, name, damaged)
            continue
        step = max(1, _GROUP // sizes[0])
        for first in range(0, len(parts), step):
            group = slice(first, first + step)
            for segment in _decode_by_libtiff(parts[group], rows[group], sizes[0] // rows[0], layout, data):
                yield segment, None


def _segment_size(layout: TiffLayout, rows: int) -> int:
    channels = 1 if layout.planar else layout.shape[2]
    return rows * -(-layout.segment[1] * channels * layout.bits // 8)


def _decode_segment(
    part: memoryview, size: int, layout: TiffLayout, data: bytes, name: str, damaged: str
) -> tuple[np.ndarray, str | None]:
    reason = None
    if layout.compression in DEFLATE:
        segment, reason = _inflate(part, size)
    elif layout.compression == JPEG:
        segment, reason = _decode_jpeg_segment(part, layout, data, name, damaged)
    elif layout.compression == WEBP:
        with Image.open(io.BytesIO(part), formats=["WEBP"]) as image:
            segment = _check_width(np.asarray(image.convert("RGBA" if layout.shape[2] == 4 else "RGB")), layout)
    else:
        segment = np.frombuffer(part, np.uint8)
    if len(segment) < size:
        raise DamageError("it ends early, or some of its data are missing")
    return segment[:size], reason


def _inflate(part: memoryview, size: int) -> tuple[np.ndarray, str | None]:
    """The first bytes of deflate's data, and what its checksum of all of them tells."""
    decompressor = zlib.decompressobj(-zlib.MAX_WBITS)  # past the header of 2 bytes: the checksum is looked at here
    segment = decompressor.decompress(part[2:], size)
    checksum, rest = zlib.adler32(segment), -1
    while not decompressor.eof and rest != len(decompressor.unconsumed_tail):
        rest = len(decompressor.unconsumed_tail)
        more = decompressor.decompress(decompressor.unconsumed_tail, _PIECE)
        checksum, rest = zlib.adler32(more, checksum), -1 if more else rest
    end = decompressor.unused_data[:4]
    mismatch = decompressor.eof and len(end) == 4 and int.from_bytes(end, "big") != checksum
    return np.frombuffer(segment, np.uint8), "wrong checksum" if mismatch else None


def _decode_jpeg_segment(
    part: memoryview, layout: TiffLayout, data: bytes, name: str, damaged: str
) -> tuple[np.ndarray, str | None]:
    channels = 1 if layout.planar else layout.shape[2]
    tables = b"\xff\xd8\xff\xd9"
    if _JPEG_TABLES in layout.tags:
        entry = layout.tags[_JPEG_TABLES]
        tables = bytes(data[entry.start : entry.start + entry.length])
    jpeg = b"\xff\xd8" + _ADOBE + bytes([layout.photometric == YCBCR]) + tables[2:-2] + part[2:]
    colour = {1: "GRAY", 3: "RGB", 4: "CMYK"}.get(channels)
    samples, reason = decode_jpeg_samples(jpeg, colour, damaged) if colour else (None, None)
    if reason is not None and samples is None:
        if damaged == "accept":
            raise DamageError(reason)
        return np.zeros(_segment_size(layout, layout.segment[0]), np.uint8), reason
    if samples is None:
        raise content_error(name, "data in a rare form of JPEG compression")
    return _check_width(samples, layout), reason


def _check_width(samples: np.ndarray, layout: TiffLayout) -> np.ndarray:
    if samples.shape[1] != layout.segment[1]:
        raise DamageError("a strip or tile has another width than its tags tell")
    return samples.reshape(-1)


def _decode_by_libtiff(
    parts: list[memoryview], rows: list[int], row_bytes: int, layout: TiffLayout, data: bytes
) -> Iterator[np.ndarray]:
    """Decompress strips by Pillow's libtiff, as those of one gray picture as wide as a strip has bytes."""
    fax = layout.compression in FAX
    width = layout.segment[1] if fax else row_bytes
    tags: Directory = {
        256: integers(LONG, width),
        257: integers(LONG, sum(rows)),
        258: integers(SHORT, 1 if fax else 8),
        259: integers(SHORT, layout.compression),
        262: integers(SHORT, 1),
        273: integers(LONG, *(np.cumsum([8, *map(len, parts[:-1])]).tolist())),
        277: integers(SHORT, 1),
        278: integers(LONG, rows[0]),
        279: integers(LONG, *map(len, parts)),
    }
    if fax:
        tags |= TagReader(data).read(layout.position, _FAX_OPTIONS)
    length = sum(map(len, parts))
    position = 8 + length + length % 2
    file = b"".join([header(position), *parts, bytes(length % 2), write_directory(tags, position)])
    with Image.open(io.BytesIO(file), formats=["TIFF"]) as image:
        lines = np.asarray(image)
    lines = np.packbits(lines, axis=1) if fax else lines
    tops = np.cumsum([0, *rows])
    for top, count in zip(tops[:-1], rows, strict=True):
        yield lines[top : top + count].reshape(-1)


def unpack_samples(segment: np.ndarray, layout: TiffLayout, rows: int) -> np.ndarray:
    """Bytes -> (rows, columns of a segment, samples) uint8 or uint16."""
    wide, channels = layout.segment[1], 1 if layout.planar else layout.shape[2]
    if layout.bits == 16:
        swapped = segment.view(">u2" if layout.big_endian else "<u2")
        samples = swapped.astype(np.uint16, copy=False).reshape(rows, wide, channels)
    elif layout.bits == 8:
        samples = segment.reshape(rows, wide, channels)
    else:
        each = 8 // layout.bits
        shifts = np.arange(each, dtype=np.uint8)[::-1] * layout.bits
        numbers = (segment[:, None] >> shifts) & (2**layout.bits - 1)
        samples = numbers.reshape(rows, -1)[:, : wide * channels].reshape(rows, wide, channels)
    return samples
