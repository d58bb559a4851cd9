"""JPEG: segments (ITU-T T.81, annex B), decoding by libjpeg-turbo, and encoding by rows.

libjpeg warns of harmless oddities, too, which cameras and phones write: bytes between segments, an unknown revision of
JFIF, a broken colour profile, zeros before the end marker. A photo that has these alone is not damaged.

Each strip of rows is compressed alone, and restart markers join the strips into one picture. That gives the pixels of
the picture compressed at once (each 8x8 block is by itself, as colour is not subsampled), in the memory of a strip:
Pillow would hold 4 bytes of each pixel, and libjpeg's own way by rows is not open to Python.
"""

import contextlib
import io
import re
import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import simplejpeg
from PIL import Image

from realsr.imaging.decoding import (
    FileContent,
    content_error,
    copy_samples,
    damage_error,
    open_contents,
)
from realsr.imaging.exif import CENTIMETRE, INCH, resolution_exif
from realsr.imaging.formats import Layout
from realsr.imaging.photo import Metadata, count_words, find_orientation

_COLOURS = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}  # by Pillow's modes
_START, _START_OF_SCAN, _RESTART_INTERVAL, _RESTART = 0xD8, 0xDA, 0xDD, 0xD0
_APPLICATION, _ADOBE, _COMMENT = 0xE0, 0xEE, 0xFE
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # the markers of a start of frame
_MARKER = re.compile(rb"\xff+([\x01-\xfe])")
_END = b"\xff\xd9"
_EXIF, _XMP, _PHOTOSHOP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"Photoshop 3.0\0"
_IPTC, _IPTC_DIGEST = 0x0404, 0x0425  # Photoshop's numbers
_UNITS = {1: INCH, 2: CENTIMETRE}  # by their numbers in JFIF
_PREFIXES = {  # by segment: what comes into the metadata, or is counted as pictures
    "APP0": (b"JFIF\0", b"JFXX\0"),
    "APP1": (_EXIF, _XMP),
    "APP2": (b"ICC_PROFILE\0", b"MPF\0"),
    "APP13": (_PHOTOSHOP,),
    "APP14": (b"Adobe",),
}
_DAMAGE = (
    "Corrupt JPEG data",
    "Premature end of JPEG file",
    "Inconsistent progression",
)  # of libjpeg's jerror.h
_EXTRA = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")
_ROWS, _BLOCK = 32, 8


def decode_jpeg(data: bytes, name: str, damaged: str, with_metadata: bool) -> FileContent:
    """Decode a JPEG file's contents (see `image_files.decode_photo`)."""
    bits = next(
        (
            data[start]
            for kind, start, _ in _segments(data)
            if kind in _FRAMES and start < len(data)
        ),
        8,
    )
    if bits != 8:
        raise content_error(name, f"JPEG samples of {bits} bits")
    with open_contents(data, name) as image:
        if image.mode == "CMYK" and "adobe" not in image.info:
            raise content_error(
                name, "CMYK colour that may be inverted or not (it lacks the marker of Adobe)"
            )
        metadata, omissions = _read_metadata(image)
        if with_metadata:  # to look for the end takes some milliseconds
            omissions += _list_further_pictures(image, data)
        samples, damage = decode_jpeg_samples(data, _COLOURS.get(image.mode, "RGB"), damaged)
        if damage is not None and damaged != "accept":
            raise damage_error(name, damage)
        if samples is None or image.mode == "CMYK":  # which Pillow converts to RGB
            samples = copy_samples(image)
    return FileContent(samples, metadata, omissions, find_orientation(metadata), damage)


def decode_jpeg_samples(
    data: bytes, colour: str, damaged: str
) -> tuple[np.ndarray | None, str | None]:
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
    return (
        samples,
        None if sound else "it ends early" if early else "its compressed data are corrupt",
    )


def _keep_pixels(data: bytes) -> tuple[bytes, int]:
    """Return a JPEG without what does not matter to its pixels, and where its first scan begins."""
    payload = bytearray(b"\xff\xd8")
    for kind, start, end in _segments(data):
        if kind == _START_OF_SCAN:
            return bytes(payload) + data[start - 2 :], len(payload)
        segment = bytearray(data[start - 2 : end])
        if segment[2:7] == b"JFIF\0" and len(segment) > 7:
            segment[7] = 1  # the revision: the others are read as this one is
        if kind in (_APPLICATION, _ADOBE) or not (
            _APPLICATION <= kind < _APPLICATION + 16 or kind == _COMMENT
        ):
            payload += bytes([0xFF, kind]) + segment
    return data, 0


def _is_padding(data: bytes, scan: int, reason: str) -> bool:
    """Whether all that is wrong are zeros between the last pixel, which has been decoded, and the end marker."""
    extra = _EXTRA.fullmatch(reason)
    end = data.find(_END, scan)
    return extra is not None and end >= 0 and not any(data[end - int(extra[1]) : end])


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield each segment's marker, and where its body begins and ends, up to the start of the first scan."""
    position = 0
    while marker := _MARKER.search(data, position):
        kind, position = marker[1][0], marker.end()
        if kind == _START_OF_SCAN:
            yield kind, position, position
            return
        if kind != _START and position + 2 <= len(data):
            end = position + struct.unpack_from(">H", data, position)[0]
            yield kind, position + 2, end
            position = max(position, end)


def _read_metadata(image: Image.Image) -> tuple[Metadata, list[str]]:
    """Return the metadata of a JPEG that Pillow has opened, and what else its segments hold, in words."""
    omissions, photoshop = list[str](), b""
    for kind, body in getattr(image, "applist"):  # noqa: B009  Pillow's types do not know it
        if kind == "COM":
            omissions.append("comment")
        elif body.startswith(b"http://ns.adobe.com/xmp/extension/\0"):
            omissions.append("further parts of XMP")
        elif not body.startswith(_PREFIXES.get(kind, ())):
            omissions.append(f"data of other programs ({kind})")
        elif kind == "APP13":
            photoshop += body.removeprefix(_PHOTOSHOP)
    resources = _read_resources(photoshop)
    if resources.keys() - {_IPTC, _IPTC_DIGEST}:
        omissions.append("image resources of Photoshop")
    info, resolution = image.info, None
    if info.get("jfif_unit") in _UNITS:
        resolution = resolution_exif(info["jfif_density"], 1, _UNITS[info["jfif_unit"]])
    metadata = Metadata(
        info.get("icc_profile"),
        info.get("exif") or resolution,
        info.get("xmp"),
        resources.get(_IPTC) or None,
    )
    return metadata, list(dict.fromkeys(omissions))


def _read_resources(data: bytes) -> dict[int, bytes]:
    """Take Photoshop's image resources apart, which may go on over several segments: their bytes by number."""
    resources, position = dict[int, bytes](), 0
    while data[position : position + 4] == b"8BIM" and position + 12 <= len(data):
        number, name = struct.unpack_from(">HB", data, position + 4)
        start = (
            position + 6 + (name + 2) // 2 * 2 + 4
        )  # a name with its length has an even number of bytes
        size = int.from_bytes(data[start - 4 : start], "big")
        resources[number] = data[start : start + size]
        position = start + size + size % 2
    return resources


def _list_further_pictures(image: Image.Image, data: bytes) -> list[str]:
    """Say in words what comes after the first picture of a JPEG that Pillow has opened."""
    if pictures := getattr(image, "n_frames", 1) - 1:
        return [count_words(pictures, "further picture")]
    scan = next((start for kind, start, _ in _segments(data) if kind == _START_OF_SCAN), len(data))
    end = data.find(_END, scan)
    after = len(data[end + 2 :].strip(b"\0\xff")) if end >= 0 else 0
    return (
        [f"{count_words(after, 'byte')} after its end (of a film or a further picture)"]
        if after
        else []
    )


class JpegEncoder:
    """Writes one JPEG file into `file`: quality 95, colour at full resolution."""

    rows = _ROWS  # at most 65535 blocks are between two restart markers, and a row of blocks may have 8192

    def __init__(self, file: BinaryIO, layout: Layout, metadata: Metadata):
        self._file, self._layout, self._metadata = file, layout, metadata
        self._strips = 0

    def write(self, samples: np.ndarray) -> None:
        """Append one strip of (h, W, C) uint8 samples: `rows` of them, fewer only at the end."""
        first = self._strips == 0
        icc, extra = (
            (self._metadata.icc, _metadata_segments(self._metadata)) if first else (None, b"")
        )
        with io.BytesIO() as strip:
            image = Image.fromarray(
                samples[..., 0] if samples.shape[2] == 1 else np.ascontiguousarray(samples)
            )
            image.save(strip, "JPEG", quality=95, subsampling="4:4:4", extra=extra, icc_profile=icc)
            data = strip.getvalue()
        scan = next(start for kind, start, _ in _segments(data) if kind == _START_OF_SCAN)
        if first:
            self._file.write(_picture_head(data[: scan - 2], self._layout))
            self._file.write(data[scan - 2 : -2])
        else:
            self._file.write(bytes([0xFF, _RESTART + (self._strips - 1) % 8]))
            pixels = scan + int.from_bytes(data[scan : scan + 2], "big")
            self._file.write(memoryview(data)[pixels:-2])
        self._strips += 1

    def finish(self) -> None:
        """Write what comes after the last row."""
        self._file.write(_END)


def _metadata_segments(metadata: Metadata) -> bytes:
    """EXIF, XMP and IPTC, each in a segment of its own."""
    data = b""
    if metadata.exif:
        data += _segment(0xE1, _EXIF + metadata.exif)
    if metadata.xmp:
        data += _segment(0xE1, _XMP + metadata.xmp)
    if (
        metadata.iptc
    ):  # a resource of Photoshop: its number, an empty name, its length, filled up to an even one
        resource = struct.pack(">HHI", _IPTC, 0, len(metadata.iptc)) + metadata.iptc
        data += _segment(0xED, _PHOTOSHOP + b"8BIM" + resource + bytes(len(resource) % 2))
    return data


def _segment(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, kind, len(body) + 2) + body


def _picture_head(head: bytes, layout: Layout) -> bytes:
    """The segments before the first strip's scan -> those of the whole picture."""
    changed = bytearray(head)
    for kind, start, _ in _segments(head):
        if kind in _FRAMES:  # bits of a sample, then the height
            struct.pack_into(">H", changed, start + 1, layout.height)
    if layout.height > _ROWS:
        interval = -(-layout.width // _BLOCK) * (_ROWS // _BLOCK)
        changed += _segment(_RESTART_INTERVAL, struct.pack(">H", interval))
    return bytes(changed)
