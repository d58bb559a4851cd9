"""Writes JPEG by rows: each strip is compressed alone, and restart markers join the strips into one picture.

That gives the pixels of the picture compressed at once (each 8x8 block is by itself, as colour is not subsampled), in
the memory of a strip: Pillow would hold 4 bytes of each pixel, and libjpeg's own way by rows is not open to Python.
"""

import io
import logging
import struct
from typing import BinaryIO

import numpy as np
from PIL import Image

from realsr.imaging.formats import Layout
from realsr.imaging.photo import Metadata

logger = logging.getLogger("realsr")

_ROWS, _BLOCK = 32, 8
_START_OF_FRAME, _RESTART_INTERVAL, _RESTART, _START_OF_SCAN = 0xFFC0, 0xFFDD, 0xFFD0, 0xFFDA
_PREFIX = b"Exif\0\0"
_LONGEST_EXIF = 65535 - 2 - len(_PREFIX)  # of a segment with its length


class JpegEncoder:
    """Writes one JPEG file into `file`: quality 95, colour at full resolution."""

    rows = _ROWS  # at most 65535 blocks are between two restart markers, and a row of blocks may have 8192

    def __init__(self, file: BinaryIO, layout: Layout, metadata: Metadata):
        self._file, self._layout, self._metadata = file, layout, metadata
        self._strips = 0
        if metadata.exif is not None and len(metadata.exif) > _LONGEST_EXIF:
            logger.warning(
                "%s bytes of EXIF do not fit a JPEG (at most %s): left out", len(metadata.exif), _LONGEST_EXIF
            )
            self._metadata = Metadata(metadata.icc)

    def write(self, samples: np.ndarray) -> None:
        """Append one strip of (h, W, C) uint8 samples: `rows` of them, fewer only at the end."""
        exif, icc = (self._metadata.exif, self._metadata.icc) if self._strips == 0 else (None, None)
        with io.BytesIO() as strip:
            image = Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else np.ascontiguousarray(samples))
            image.save(
                strip, "JPEG", quality=95, subsampling="4:4:4", exif=_PREFIX + exif if exif else b"", icc_profile=icc
            )
            data = strip.getvalue()
        head, scan = _split(data, self._layout)
        if self._strips == 0:
            self._file.write(head)
        else:
            self._file.write(struct.pack(">H", _RESTART + (self._strips - 1) % 8))
        self._file.write(scan)
        self._strips += 1

    def finish(self) -> None:
        """Write what comes after the last row."""
        self._file.write(b"\xff\xd9")


def _split(data: bytes, layout: Layout) -> tuple[bytes, memoryview]:
    """A strip's file -> what comes before the compressed pixels, made that of the whole picture, and these pixels."""
    head, position = bytearray(data[:2]), 2
    while True:
        marker, length = struct.unpack_from(">HH", data, position)
        segment = bytearray(data[position : position + 2 + length])
        if marker == _START_OF_FRAME:
            struct.pack_into(">H", segment, 5, layout.height)
        if marker == _START_OF_SCAN and layout.height > _ROWS:
            interval = -(-layout.width // _BLOCK) * (_ROWS // _BLOCK)
            head += struct.pack(">HHH", _RESTART_INTERVAL, 4, interval)
        head += segment
        position += 2 + length
        if marker == _START_OF_SCAN:
            return bytes(head), memoryview(data)[position:-2]
