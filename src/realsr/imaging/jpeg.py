"""JPEG: segments (ITU-T T.81, annex B), decoding by libjpeg-turbo, encoding by rows, quantisation.

libjpeg also warns about harmless deviations in files of cameras and phones: bytes between segments,
an unknown revision of JFIF, a broken colour profile, zeros before the end marker. A file with no
other fault is not damaged.

Each strip of rows is compressed separately, and restart markers join the strips into one image. The
pixels are those of an image compressed at once, since colour is not subsampled and 8x8 blocks are
independent. Only one strip is in memory: Pillow would need 4 bytes per pixel, and libjpeg's
interface by rows is not available in Python.
"""

import contextlib
import io
import re
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import simplejpeg
from PIL import Image

from realsr.imaging.exif import CENTIMETRE, INCH, resolution_exif
from realsr.imaging.formats import Layout, content_error, damage_error
from realsr.imaging.photo import Metadata, Photo, count_words, find_orientation
from realsr.imaging.pillow_images import copy_samples, open_contents, open_image

_COLOURS = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}  # by Pillow's modes
_START, _START_OF_SCAN, _RESTART_INTERVAL, _RESTART = 0xD8, 0xDA, 0xDD, 0xD0
_APPLICATION, _ADOBE, _COMMENT = 0xE0, 0xEE, 0xFE
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start-of-frame markers
_MARKER = re.compile(rb"\xff+([\x01-\xfe])")
_END = b"\xff\xd9"
_EXIF, _XMP, _PHOTOSHOP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"Photoshop 3.0\0"
_IPTC, _IPTC_DIGEST = 0x0404, 0x0425  # numbers of Photoshop's image resources
_UNITS = {1: INCH, 2: CENTIMETRE}  # by JFIF's numbers
_PREFIXES = {  # of segments that are read as metadata or counted as images
    "APP0": (b"JFIF\0", b"JFXX\0"),
    "APP1": (_EXIF, _XMP),
    "APP2": (b"ICC_PROFILE\0", b"MPF\0"),
    "APP13": (_PHOTOSHOP,),
    "APP14": (b"Adobe",),
}
# Messages from libjpeg's jerror.h.
_DAMAGE = ("Corrupt JPEG data", "Premature end of JPEG file", "Inconsistent progression")
_EXTRA = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")
_ROWS, _BLOCK = 32, 8
# The luma table of ITU-T T.81, annex K.1, which libjpeg scales by its quality.
_LUMA = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
_SUBSAMPLINGS = {  # by the luma samples across and down for each chroma sample
    (1, 1): "4:4:4",
    (2, 1): "4:2:2",
    (2, 2): "4:2:0",
    (1, 2): "4:4:0",
    (4, 1): "4:1:1",
}


def decode_jpeg(data: bytes, name: str, damaged: str, with_metadata: bool) -> tuple[Photo, int]:
    """Decode the contents of a JPEG file."""
    frame = _find_segment(data, _FRAMES)
    bits = data[frame] if frame < len(data) else 8
    if bits != 8:
        raise content_error(name, f"JPEG samples of {bits} bits")
    with open_contents(data, name) as image:
        if image.mode == "CMYK" and "adobe" not in image.info:
            raise content_error(
                name, "CMYK colour that may or may not be inverted (it lacks Adobe's marker)"
            )
        metadata, omissions = _read_metadata(image)
        if with_metadata:  # the search for the end takes some milliseconds
            omissions += _list_further_images(image, data)
        samples, damage = decode_jpeg_samples(data, _COLOURS.get(image.mode, "RGB"), damaged)
        if damage is not None and damaged != "accept":
            raise damage_error(name, damage)
        if samples is None or image.mode == "CMYK":  # Pillow converts CMYK to RGB
            samples = copy_samples(image)
    return Photo(samples, metadata, damage, tuple(omissions)), find_orientation(metadata)


def decode_jpeg_samples(
    data: bytes, colour: str, damaged: str
) -> tuple[np.ndarray | None, str | None]:
    """Decode the contents of a JPEG file; return the samples and the damage.

    colour: the file's colour space, GRAY, RGB (also for YCbCr) or CMYK.
    damaged: `accept` decodes as much of damaged contents as possible.

    The samples are (H, W, C) uint8, or None if nothing is decoded. The damage is None for an intact
    file. Both are None for variants of JPEG that libjpeg-turbo does not read, such as chroma
    sampled more finely than luma.
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
    intact = _is_padding(data, scan, reason)
    samples = None
    if intact or damaged == "accept":
        with contextlib.suppress(ValueError):
            samples = simplejpeg.decode_jpeg(data, colour, strict=False)
    if intact:
        return samples, None
    is_short = reason.startswith("Premature")
    return samples, "it ends early" if is_short else "its compressed data are corrupt"


def _keep_pixels(data: bytes) -> tuple[bytes, int]:
    """Return a JPEG without segments that do not affect its pixels, and where its scan begins."""
    payload = bytearray(b"\xff\xd8")
    for kind, start, end in _segments(data):
        if kind == _START_OF_SCAN:
            return bytes(payload) + data[start - 2 :], len(payload)
        segment = bytearray(data[start - 2 : end])
        if segment[2:7] == b"JFIF\0" and len(segment) > 7:
            segment[7] = 1  # the revision; all revisions are decoded alike
        if kind in (_APPLICATION, _ADOBE) or not (
            _APPLICATION <= kind < _APPLICATION + 16 or kind == _COMMENT
        ):
            payload += bytes([0xFF, kind]) + segment
    return data, 0


def _is_padding(data: bytes, scan: int, reason: str) -> bool:
    """Return whether the only fault is zeros between the last decoded pixel and the end marker."""
    extra = _EXTRA.fullmatch(reason)
    end = data.find(_END, scan)
    return extra is not None and end >= 0 and not any(data[end - int(extra[1]) : end])


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment's body, up to the start of the first scan."""
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


def _find_segment(data: bytes, kinds: Collection[int]) -> int:
    """Return the start of the first segment of one of the kinds; the end of the data if none."""
    return next((start for kind, start, _ in _segments(data) if kind in kinds), len(data))


def _read_metadata(image: Image.Image) -> tuple[Metadata, list[str]]:
    """Return the metadata of a JPEG opened by Pillow, and descriptions of its other segments."""
    omissions, photoshop = list[str](), b""
    for kind, body in getattr(image, "applist"):  # noqa: B009  missing in Pillow's types
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
    """Return Photoshop's image resources, joined from all segments, as bytes by number."""
    resources, position = dict[int, bytes](), 0
    while data[position : position + 4] == b"8BIM" and position + 12 <= len(data):
        number, name = struct.unpack_from(">HB", data, position + 4)
        name_size = (name + 2) // 2 * 2  # with its length byte, padded to an even number
        start = position + 6 + name_size + 4
        size = int.from_bytes(data[start - 4 : start], "big")
        resources[number] = data[start : start + size]
        position = start + size + size % 2
    return resources


def _list_further_images(image: Image.Image, data: bytes) -> list[str]:
    """Describe the data after the first image of a JPEG opened by Pillow."""
    if images := getattr(image, "n_frames", 1) - 1:
        return [count_words(images, "further image")]
    end = data.find(_END, _find_segment(data, {_START_OF_SCAN}))
    surplus = len(data[end + 2 :].strip(b"\0\xff")) if end >= 0 else 0
    text = f"{count_words(surplus, 'byte')} after its end (of a video or a further image)"
    return [text] if surplus else []


class JpegEncoder:
    """Writes one JPEG file into `file`: quality 95, colour at full resolution."""

    rows = _ROWS  # a restart interval is at most 65535 blocks; a row of blocks has up to 8192

    def __init__(self, file: BinaryIO, layout: Layout, metadata: Metadata):
        self._file, self._layout, self._metadata = file, layout, metadata
        self._strips = 0

    def write(self, samples: np.ndarray) -> None:
        """Append one strip of (h, W, C) uint8 samples: `rows` of them, fewer only at the end."""
        first = self._strips == 0
        icc = self._metadata.icc if first else None
        extra = _metadata_segments(self._metadata) if first else b""
        samples = samples[..., 0] if samples.shape[2] == 1 else np.ascontiguousarray(samples)
        with io.BytesIO() as strip:
            image = Image.fromarray(samples)
            image.save(strip, "JPEG", quality=95, subsampling="4:4:4", extra=extra, icc_profile=icc)
            data = strip.getvalue()
        scan = _find_segment(data, {_START_OF_SCAN})
        if first:
            self._file.write(_image_head(data[: scan - 2], self._layout))
            self._file.write(data[scan - 2 : -2])
        else:
            self._file.write(bytes([0xFF, _RESTART + (self._strips - 1) % 8]))
            pixels = scan + int.from_bytes(data[scan : scan + 2], "big")
            self._file.write(memoryview(data)[pixels:-2])
        self._strips += 1

    def finish(self) -> None:
        """Write the end marker."""
        self._file.write(_END)


def _metadata_segments(metadata: Metadata) -> bytes:
    """Return EXIF, XMP and IPTC, each in a segment."""
    resource, iptc = b"", metadata.iptc
    if iptc:
        # An image resource of Photoshop: number, empty name, length, data padded to even length.
        resource = b"8BIM" + struct.pack(">HHI", _IPTC, 0, len(iptc)) + iptc + bytes(len(iptc) % 2)
    parts = (
        (0xE1, _EXIF, metadata.exif),
        (0xE1, _XMP, metadata.xmp),
        (0xED, _PHOTOSHOP, resource),
    )
    return b"".join(_segment(kind, prefix + body) for kind, prefix, body in parts if body)


def _segment(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, kind, len(body) + 2) + body


def _image_head(head: bytes, layout: Layout) -> bytes:
    """Return the segments before the scan of the whole image, from those of the first strip."""
    result = bytearray(head)
    for kind, start, _ in _segments(head):
        if kind in _FRAMES:  # bits per sample, then the height
            struct.pack_into(">H", result, start + 1, layout.height)
    if layout.height > _ROWS:
        interval = -(-layout.width // _BLOCK) * (_ROWS // _BLOCK)
        result += _segment(_RESTART_INTERVAL, struct.pack(">H", interval))
    return bytes(result)


@dataclass(frozen=True)
class Quantisation:
    """The compression of a JPEG file.

    tables: of the first two components, luma and chroma, or of a single one; 64 values each, row by
        row. subsampling: of the components, e.g. "4:2:0"; "gray" for one component.
    """

    tables: tuple[tuple[int, ...], ...]
    subsampling: str

    @property
    def quality(self) -> int:
        """The quality 1..100 whose scaled luma table of ITU-T T.81 (libjpeg's) is nearest."""
        qualities = np.arange(1, 101)
        factors = np.where(qualities < 50, 5000 / qualities, 200 - 2 * qualities) / 100
        tables = np.floor(factors[:, None] * _LUMA.ravel() + 0.5).clip(1, 255)
        return int(qualities[np.abs(tables - np.array(self.tables[0])).sum(1).argmin()])


def read_quantisation(path: Path) -> Quantisation | None:
    """Return the compression of a gray or colour JPEG from its header; None for other files.

    Raises OSError for an unreadable file.
    """
    with path.open("rb") as file:
        if file.read(3) != b"\xff\xd8\xff":
            return None
        file.seek(0)
        with open_image(file) as image:
            tables = getattr(image, "quantization", {})
            # of each component: name, horizontal and vertical samples, number of its table
            layers = getattr(image, "layer", [])
    if len(layers) not in (1, 3) or not tables:
        return None
    subsampling = "gray"
    if len(layers) == 3:
        across, down = (layers[0][i] // max(layers[1][i], 1) for i in (1, 2))
        subsampling = _SUBSAMPLINGS.get((across, down), f"{across}x{down}")
    return Quantisation(tuple(tuple(tables[layer[3]]) for layer in layers[:2]), subsampling)
