"""Writes BMP by rows."""

import struct
from typing import BinaryIO

import numpy as np

from realsr.imaging.formats import Layout, bmp_row, bmp_size
from realsr.imaging.photo import Metadata

_HEADERS = 14 + 40  # BITMAPFILEHEADER and BITMAPINFOHEADER


class BmpEncoder:
    """Writes one BMP file into `file`, whose position must be 0. BMP holds neither a colour profile (here) nor EXIF."""

    rows = 64

    def __init__(self, file: BinaryIO, layout: Layout, metadata: Metadata):
        self._file, self._row, self._end = file, bmp_row(layout), bmp_size(layout)
        gray = layout.channels == 1
        start = self._end - self._row * layout.height
        file.write(struct.pack("<2sIHHI", b"BM", self._end, 0, 0, start))
        colours = 256 if gray else 0
        info = (
            40,
            layout.width,
            layout.height,
            1,
            8 * layout.channels,
            0,
            self._end - start,
            3780,
            3780,
            colours,
            colours,
        )
        file.write(struct.pack("<IiiHHIIiiII", *info))
        if gray:
            file.write(b"".join(bytes([level, level, level, 0]) for level in range(256)))

    def write(self, samples: np.ndarray) -> None:
        """Add (h, W, C) uint8 samples below those before: the file begins with the lowest row."""
        rows = np.zeros((len(samples), self._row), np.uint8)
        rows[:, : samples[0].size] = samples[::-1, :, ::-1].reshape(len(samples), -1)
        self._end -= rows.size
        self._file.seek(self._end)
        self._file.write(rows.data)

    def finish(self) -> None:
        """Nothing comes after the last row."""
