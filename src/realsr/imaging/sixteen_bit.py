"""16-bit PNG and TIFF writers: Pillow has no 16-bit colour, OpenCV no gray + alpha and no alpha tag."""

import struct
import zlib

import numpy as np

_PNG_COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> gray, gray + alpha, RGB, RGBA
_PNG_FILTER_SUB = 1
_TIFF_SHORT, _TIFF_LONG = 3, 4
_TIFF_STRIP_ROWS = 64  # readers limit the size of a strip
_COMPRESSION = 3


def encode_png_16(samples: np.ndarray) -> bytes:
    """(H, W, C) uint16, C = 1..4 -> a PNG file's contents (PNG specification, third edition)."""
    height, width, channels = samples.shape
    rows = np.ascontiguousarray(samples.astype(">u2")).view(np.uint8).reshape(height, -1)
    step = 2 * channels
    filtered = np.empty((height, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = _PNG_FILTER_SUB
    filtered[:, 1 : 1 + step] = rows[:, :step]
    filtered[:, 1 + step :] = rows[:, step:] - rows[:, :-step]
    header = struct.pack(">IIBBBBB", width, height, 16, _PNG_COLOUR_TYPE[channels], 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            _png_chunk(b"IHDR", header),
            _png_chunk(b"IDAT", zlib.compress(filtered.data, _COMPRESSION)),
            _png_chunk(b"IEND", b""),
        ]
    )


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))


def encode_tiff_16(samples: np.ndarray) -> bytes:
    """(H, W, C) uint16, C = 1 gray, 3 RGB, 4 RGBA -> a TIFF file's contents (TIFF 6.0, deflate)."""
    height, width, channels = samples.shape
    differences = samples.astype("<u2")
    differences[:, 1:] -= samples[:, :-1]
    strips = [
        zlib.compress(np.ascontiguousarray(differences[top : top + _TIFF_STRIP_ROWS]).data, _COMPRESSION)
        for top in range(0, height, _TIFF_STRIP_ROWS)
    ]
    sizes = [len(strip) for strip in strips]
    starts = [8 + sum(sizes[:i]) for i in range(len(sizes))]
    entries = [
        (256, _TIFF_LONG, [width]),
        (257, _TIFF_LONG, [height]),
        (258, _TIFF_SHORT, [16] * channels),  # bits per sample
        (259, _TIFF_SHORT, [8]),  # compression: deflate
        (262, _TIFF_SHORT, [1 if channels == 1 else 2]),  # black is zero, or RGB
        (273, _TIFF_LONG, starts),
        (277, _TIFF_SHORT, [channels]),
        (278, _TIFF_LONG, [_TIFF_STRIP_ROWS]),
        (279, _TIFF_LONG, sizes),
        (284, _TIFF_SHORT, [1]),  # channels interleaved
        (317, _TIFF_SHORT, [2]),  # predictor: horizontal differences
    ]
    if channels == 4:
        entries.append((338, _TIFF_SHORT, [2]))  # the extra sample is alpha, not premultiplied
    body = b"".join(strips)
    body += b"\0" * (len(body) % 2)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + _tiff_directory(entries, 8 + len(body))


def _tiff_directory(entries: list[tuple[int, int, list[int]]], offset: int) -> bytes:
    """The directory that will stand at `offset`, then the values too long for its entries."""
    long_values_at = offset + 2 + 12 * len(entries) + 4
    directory, long_values = struct.pack("<H", len(entries)), b""
    for tag, kind, values in entries:
        packed = struct.pack(f"<{len(values)}{'H' if kind == _TIFF_SHORT else 'I'}", *values)
        if len(packed) <= 4:
            field = packed.ljust(4, b"\0")
        else:
            field = struct.pack("<I", long_values_at + len(long_values))
            long_values += packed
        directory += struct.pack("<HHI", tag, kind, len(values)) + field
    return directory + struct.pack("<I", 0) + long_values
