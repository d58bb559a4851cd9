"""JPEG -> samples, with what libjpeg tells about damage, which Pillow does not pass on.

libjpeg warns of harmless oddities too, which cameras and phones write: bytes between segments, an unknown revision of
JFIF, a broken colour profile, zeros before the end marker. A photo that has these alone is not damaged.
"""

import contextlib
import re

import numpy as np
import simplejpeg

from realsr.imaging.jpeg_segments import ADOBE, APPLICATION, COMMENT, START_OF_SCAN, segments

_DAMAGE = ("Corrupt JPEG data", "Premature end of JPEG file", "Inconsistent progression")  # of libjpeg's jerror.h
_EXTRA = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")
_END = b"\xff\xd9"


def decode_jpeg(data: bytes, colour: str, damaged: str) -> tuple[np.ndarray | None, str | None]:
    """Decode a JPEG file's contents, and return what is wrong with them, None for a sound file.

    colour: GRAY, RGB or CMYK, as the file is coded (RGB for YCbCr too).
    damaged: `accept` decodes what it can of damaged contents, too.

    Returns (H, W, C) uint8, or None where nothing is decoded. Both are None for forms of JPEG that this decoder does
    not read, such as chroma sampled more finely than luma.
    """
    try:
        return simplejpeg.decode_jpeg(data, colour), None
    except ValueError:
        data, scan = _keep_pixels(data)
    try:
        return simplejpeg.decode_jpeg(data, colour), None
    except ValueError as error:
        reason = str(error)
    if not reason.startswith(_DAMAGE):
        return None, None
    sound = _is_padding(data, scan, reason)
    samples = None
    if sound or damaged == "accept":
        with contextlib.suppress(ValueError):
            samples = simplejpeg.decode_jpeg(data, colour, strict=False)
    early = reason.startswith("Premature")
    return samples, None if sound else "it ends early" if early else "its compressed data are corrupt"


def _keep_pixels(data: bytes) -> tuple[bytes, int]:
    """Return a JPEG without what does not matter to its pixels, and where its first scan begins."""
    payload = bytearray(b"\xff\xd8")
    for kind, start, end in segments(data):
        if kind == START_OF_SCAN:
            return bytes(payload) + data[start - 2 :], len(payload)
        segment = bytearray(data[start - 2 : end])
        if segment[2:7] == b"JFIF\0" and len(segment) > 7:
            segment[7] = 1  # the revision: the others are read as this one is
        if kind in (APPLICATION, ADOBE) or not (APPLICATION <= kind < APPLICATION + 16 or kind == COMMENT):
            payload += bytes([0xFF, kind]) + segment
    return data, 0


def _is_padding(data: bytes, scan: int, reason: str) -> bool:
    """Whether all that is wrong are zeros between the last pixel, which has been decoded, and the end marker."""
    extra = _EXTRA.fullmatch(reason)
    end = data.find(_END, scan)
    return extra is not None and end >= 0 and not any(data[end - int(extra[1]) : end])
