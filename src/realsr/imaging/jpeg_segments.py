"""The segments of a JPEG file before its pixels, and what they tell besides the pixels (ITU-T T.81, annex B)."""

import re
import struct
from collections.abc import Iterator

from PIL import Image

from realsr.imaging.exif import CENTIMETRE, INCH, resolution_exif
from realsr.imaging.photo import Metadata, count_words

START_OF_SCAN, APPLICATION, ADOBE, COMMENT = 0xDA, 0xE0, 0xEE, 0xFE
_START, _END = 0xD8, b"\xff\xd9"
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # the markers of a start of frame
_MARKER = re.compile(rb"\xff+([\x01-\xfe])")
_IPTC, _IPTC_DIGEST = 0x0404, 0x0425  # Photoshop's numbers
_PREFIXES = {  # what comes into the metadata, or is counted as pictures
    0xE0: (b"JFIF\0", b"JFXX\0"),
    0xE1: (b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"),
    0xE2: (b"ICC_PROFILE\0", b"MPF\0"),
    0xED: (b"Photoshop 3.0\0",),
    0xEE: (b"Adobe",),
}


def segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield each segment's marker, and where its body begins and ends, up to the start of the first scan."""
    position = 0
    while marker := _MARKER.search(data, position):
        kind, position = marker[1][0], marker.end()
        if kind == START_OF_SCAN:
            yield kind, position, position
            return
        if kind != _START and position + 2 <= len(data):
            end = position + struct.unpack_from(">H", data, position)[0]
            yield kind, position + 2, end
            position = max(position, end)


def jpeg_bits(data: bytes) -> int:
    """Return the bits of a sample, 0 where a JPEG does not tell them."""
    return next((data[start] for kind, start, end in segments(data) if kind in _FRAMES and start < len(data)), 0)


def read_jpeg_metadata(image: Image.Image, data: bytes) -> tuple[Metadata, list[str]]:
    """Return the metadata of a JPEG that Pillow has opened, and what else its segments hold, in words."""
    omissions, resolution, photoshop = list[str](), None, b""
    for kind, start, end in segments(data):
        body = data[start:end]
        if kind == COMMENT:
            omissions.append("comment")
        elif body.startswith(b"http://ns.adobe.com/xmp/extension/\0"):
            omissions.append("further parts of XMP")
        elif kind == 0xED and body.startswith(_PREFIXES[kind]):
            photoshop += body.removeprefix(_PREFIXES[kind][0])
        elif body.startswith(b"JFIF\0") and body[7:8] in (b"\1", b"\2"):
            sides = struct.unpack_from(">HH", body.ljust(12, b"\0"), 8)
            resolution = resolution_exif(sides, 1, INCH if body[7] == 1 else CENTIMETRE)
        elif APPLICATION <= kind < APPLICATION + 16 and not body.startswith(_PREFIXES.get(kind, ())):
            omissions.append(f"data of other programs (APP{kind - APPLICATION})")
    resources = _read_resources(photoshop)
    if resources.keys() - {_IPTC, _IPTC_DIGEST}:
        omissions.append("image resources of Photoshop")
    info = image.info
    metadata = Metadata(
        info.get("icc_profile"), info.get("exif") or resolution, info.get("xmp"), resources.get(_IPTC) or None
    )
    return metadata, list(dict.fromkeys(omissions))


def _read_resources(data: bytes) -> dict[int, bytes]:
    """Take Photoshop's image resources apart, which may go on over several segments: their bytes by number."""
    resources, position = dict[int, bytes](), 0
    while data[position : position + 4] == b"8BIM" and position + 12 <= len(data):
        number, name = struct.unpack_from(">HB", data, position + 4)
        start = position + 6 + (name + 2) // 2 * 2 + 4  # a name with its length has an even number of bytes
        size = int.from_bytes(data[start - 4 : start], "big")
        resources[number] = data[start : start + size]
        position = start + size + size % 2
    return resources


def list_further_pictures(image: Image.Image, data: bytes) -> list[str]:
    """Say in words what comes after the first picture of a JPEG that Pillow has opened."""
    if pictures := getattr(image, "n_frames", 1) - 1:
        return [count_words(pictures, "further picture")]
    scan = next((start for kind, start, _ in segments(data) if kind == START_OF_SCAN), len(data))
    end = data.find(_END, scan)
    after = len(data[end + 2 :].strip(b"\0\xff")) if end >= 0 else 0
    return [f"{count_words(after, 'byte')} after its end (of a film or a further picture)"] if after else []
