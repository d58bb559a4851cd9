"""BMP: decoding by Pillow, with what its header tells, and encoding by rows."""

import io
import struct
from typing import BinaryIO

import numpy as np
from PIL import Image

from realsr.imaging.decoding import DamageError, FileContent, check_size, content_error, copy_out
from realsr.imaging.formats import Layout, bmp_row, bmp_size
from realsr.imaging.photo import Metadata

_PLAIN, _MASKS = 0, (3, 6)
_COMPRESSIONS = {_PLAIN: (1, 2, 4, 8, 16, 24, 32), 1: (8,), 2: (4,), 3: (16, 32), 6: (16, 32)}  # and their bits
_MASKS_BY_BITS = {  # red, green, blue and alpha, in the order of bits
    16: [(0x7C00, 0x3E0, 0x1F, 0), (0xF800, 0x7E0, 0x1F, 0)],
    32: [
        (0xFF0000, 0xFF00, 0xFF, 0),
        (0xFF000000, 0xFF0000, 0xFF00, 0),
        (0xFF0000, 0xFF00, 0xFF, 0xFF000000),
        (0xFF, 0xFF00, 0xFF0000, 0xFF000000),
        (0xFF000000, 0xFF0000, 0xFF00, 0xFF),
    ],
}
_PROFILES = (0x4D424544, 0x4C494E4B)  # "MBED" and "LINK"


def decode_bmp(data: bytes, name: str, damaged: str, with_metadata: bool) -> FileContent:
    """Decode a BMP file's contents (see `image_files.decode_photo`)."""
    problem, omissions = _read_header(data)
    if problem is not None:
        raise content_error(name, problem)
    with Image.open(io.BytesIO(data), formats=["BMP"]) as image:
        check_size(image.width, image.height, name)
        image.load()
        return FileContent(copy_out(image), Metadata(), omissions, 1)


def _read_header(data: bytes) -> tuple[str | None, list[str]]:
    """Return in words why a BMP is not read, None if it is, and what is left out of it. Raises DamageError."""
    start, size = struct.unpack_from("<II", data.ljust(18, b"\0"), 10)
    if size < 40:
        return None, []  # of OS/2: palettes and 24 bits only
    header = data[14 : 14 + max(size, 56)]
    if len(header) < 40:
        raise DamageError("it ends early")
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", header, 4)
    if bits not in _COMPRESSIONS.get(compression, ()):
        names = {4: "JPEG compressed data", 5: "PNG compressed data"}
        return names.get(compression, "data in a rare form of compression or with a rare number of bits"), []
    omissions = []
    masks = struct.unpack_from("<4I", header.ljust(56, b"\0"), 40)
    if compression in _MASKS:
        masks = masks if size >= 56 or compression == 6 else (*masks[:3], 0)
        if masks not in _MASKS_BY_BITS[bits]:
            return "colours in an unusual order (by its bit masks)", []
    elif bits == 32:
        fourth = np.frombuffer(data, np.uint8, max(0, min(len(data) - start, 4 * abs(width * height))), start)[3::4]
        if len(fourth) and fourth.min() != fourth.max():
            omissions.append("extra channel, which may be alpha")
    if size >= 124 and struct.unpack_from("<I", header, 56)[0] in _PROFILES:
        omissions.append("colour profile")
    return None, omissions


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
