"""A 16-bit TIFF writer: Pillow has no 16-bit colour, OpenCV no gray + alpha and no alpha tag."""

import struct
import zlib

import numpy as np

_TIFF_SHORT, _TIFF_LONG = 3, 4
_TIFF_STRIP_ROWS = 64  # readers limit the size of a strip
_COMPRESSION = 3


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
