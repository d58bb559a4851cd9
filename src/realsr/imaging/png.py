"""A PNG writer for what Pillow cannot write or is slow at: 16-bit colour, and noise."""

import struct
import zlib

import numpy as np

_COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> gray, gray + alpha, RGB, RGBA
_FILTER_SUB = 1


def encode_png(samples: np.ndarray, compression: int = 3) -> bytes:
    """(H, W, C) uint8 or uint16, C = 1..4 -> a PNG file's contents (PNG specification, third edition).

    All rows have one filter, differences to the left. For noise that is as good as Pillow's search for the best
    filter of each row, and takes half the time at compression 1.
    """
    height, width, channels = samples.shape
    bytes_each = samples.dtype.itemsize
    big_endian = np.ascontiguousarray(samples.astype(samples.dtype.newbyteorder(">"), copy=False))
    rows = big_endian.view(np.uint8).reshape(height, -1)
    step = bytes_each * channels
    filtered = np.empty((height, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = _FILTER_SUB
    filtered[:, 1 : 1 + step] = rows[:, :step]
    filtered[:, 1 + step :] = rows[:, step:] - rows[:, :-step]
    header = struct.pack(">IIBBBBB", width, height, 8 * bytes_each, _COLOUR_TYPE[channels], 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", header),
            _chunk(b"IDAT", zlib.compress(filtered.data, compression)),
            _chunk(b"IEND", b""),
        ]
    )


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))
