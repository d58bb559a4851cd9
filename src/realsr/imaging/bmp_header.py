"""What the header of a BMP file tells: why it may not be read, and what is left out of it."""

import struct

import numpy as np

from realsr.imaging.picture import DamageError

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


def read_bmp_header(data: bytes) -> tuple[str | None, list[str]]:
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
