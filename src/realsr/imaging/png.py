"""Writes PNG by rows, 8 and 16 bit (PNG specification, third edition)."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from realsr.imaging.formats import Layout
from realsr.imaging.photo import Metadata

_COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> gray, gray + alpha, RGB, RGBA
_FILTER_SUB, _FILTER_AVERAGE = 1, 3


def fast_deflate() -> Any:
    """Return a compressor that looks for runs only, enough for the differences in photos."""
    return zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)


class PngEncoder:
    """Writes one PNG file into `file`. `write` takes any number of rows at a time.

    All rows have one filter: for the differences that it leaves, a search for the best filter of each row is not worth
    its time (docs/files.md has figures).
    """

    rows = 64

    def __init__(
        self,
        file: BinaryIO,
        layout: Layout,
        metadata: Metadata,
        row_filter: "Callable[[np.ndarray, np.ndarray, int], np.ndarray] | None" = None,
        compressor: Any = None,
    ):
        self._file, self._step = file, layout.channels * layout.bits // 8
        self._filter, self._compressor = row_filter or average, compressor or fast_deflate()
        self._above = np.zeros(layout.row_bytes, np.uint8)
        file.write(b"\x89PNG\r\n\x1a\n")
        colour = _COLOUR_TYPE[layout.channels]
        self._chunk(b"IHDR", struct.pack(">IIBBBBB", layout.width, layout.height, layout.bits, colour, 0, 0, 0))
        if metadata.icc is not None:
            self._chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc))
        if metadata.exif is not None:
            self._chunk(b"eXIf", metadata.exif)
        if metadata.xmp is not None:
            self._chunk(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + metadata.xmp)
        self._rows_left = layout.height

    def write(self, samples: np.ndarray) -> None:
        """Append (h, W, C) samples; with the last row the file is complete."""
        big_endian = np.ascontiguousarray(samples.astype(samples.dtype.newbyteorder(">"), copy=False))
        rows = big_endian.view(np.uint8).reshape(len(samples), -1)
        filtered = self._filter(rows, self._above, self._step)
        self._above = rows[-1].copy()
        self._rows_left -= len(rows)
        data = self._compressor.compress(filtered.data)
        if self._rows_left == 0:
            data += self._compressor.flush()
        if data:
            self._chunk(b"IDAT", data)

    def finish(self) -> None:
        """Write what comes after the last row."""
        self._chunk(b"IEND", b"")

    def _chunk(self, kind: bytes, body: bytes) -> None:
        for part in (struct.pack(">I", len(body)), kind, body):
            self._file.write(part)
        self._file.write(struct.pack(">I", zlib.crc32(body, zlib.crc32(kind))))


def encode_png(samples: np.ndarray, compression: int = 3) -> bytes:
    """(H, W, C) uint8 or uint16, C = 1..4 -> a PNG file's contents, made for noise.

    All rows have the filter Sub, differences to the left. For noise that is as good as a search for the best filter of
    each row, and takes half the time at compression 1.
    """
    layout = Layout.of(samples)
    with io.BytesIO() as file:
        encoder = PngEncoder(file, layout, Metadata(), sub, zlib.compressobj(compression))
        encoder.write(samples)
        encoder.finish()
        return file.getvalue()


def sub(rows: np.ndarray, above: np.ndarray, step: int) -> np.ndarray:
    """(h, bytes) -> (h, 1 + bytes) uint8: the filter's number, then each byte less that of the pixel to the left.

    above: (bytes,), the row before the first; step: bytes of a pixel.
    """
    filtered = np.empty((len(rows), 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = _FILTER_SUB
    filtered[:, 1 : 1 + step] = rows[:, :step]
    filtered[:, 1 + step :] = rows[:, step:] - rows[:, :-step]
    return filtered


def average(rows: np.ndarray, above: np.ndarray, step: int) -> np.ndarray:
    """As `sub`, but each byte less the mean, rounded down, of those to the left and above."""
    left = np.zeros_like(rows)
    left[:, step:] = rows[:, :-step]
    up = np.concatenate([above[None], rows[:-1]])
    filtered = np.empty((len(rows), 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = _FILTER_AVERAGE
    filtered[:, 1:] = rows - ((left & up) + ((left ^ up) >> 1))  # the mean without a ninth bit
    return filtered
