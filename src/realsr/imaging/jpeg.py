"""Writes JPEG by rows: each strip is compressed alone, and restart markers join the strips into one picture.

That gives the pixels of the picture compressed at once (each 8x8 block is by itself, as colour is not subsampled), in
the memory of a strip: Pillow would hold 4 bytes of each pixel, and libjpeg's own way by rows is not open to Python.
"""

import io
import struct
from typing import BinaryIO

import numpy as np
from PIL import Image

from realsr.imaging.formats import Layout
from realsr.imaging.photo import Metadata

_ROWS, _BLOCK = 32, 8
_START_OF_FRAME, _RESTART_INTERVAL, _RESTART, _START_OF_SCAN = 0xFFC0, 0xFFDD, 0xFFD0, 0xFFDA
_APP1, _APP13 = 0xFFE1, 0xFFED


class JpegEncoder:
    """Writes one JPEG file into `file`: quality 95, colour at full resolution."""

    rows = _ROWS  # at most 65535 blocks are between two restart markers, and a row of blocks may have 8192

    def __init__(self, file: BinaryIO, layout: Layout, metadata: Metadata):
        self._file, self._layout, self._metadata = file, layout, metadata
        self._strips = 0

    def write(self, samples: np.ndarray) -> None:
        """Append one strip of (h, W, C) uint8 samples: `rows` of them, fewer only at the end."""
        icc, segments = (self._metadata.icc, _segments(self._metadata)) if self._strips == 0 else (None, b"")
        with io.BytesIO() as strip:
            image = Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else np.ascontiguousarray(samples))
            image.save(strip, "JPEG", quality=95, subsampling="4:4:4", extra=segments, icc_profile=icc)
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


def _segments(metadata: Metadata) -> bytes:
    """EXIF, XMP and IPTC, each in a segment of its own."""
    data = b""
    if metadata.exif:
        data += _segment(_APP1, b"Exif\0\0" + metadata.exif)
    if metadata.xmp:
        data += _segment(_APP1, b"http://ns.adobe.com/xap/1.0/\0" + metadata.xmp)
    if metadata.iptc:  # a resource of Photoshop: its number, an empty name, its length, filled up to an even one
        resource = struct.pack(">HHI", 0x0404, 0, len(metadata.iptc)) + metadata.iptc
        data += _segment(_APP13, b"Photoshop 3.0\x008BIM" + resource + bytes(len(resource) % 2))
    return data


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">HH", marker, len(body) + 2) + body


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
