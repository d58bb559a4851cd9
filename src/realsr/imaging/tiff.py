"""TIFF: decoding, metadata, and encoding by rows, 8 and 16 bit (TIFF 6.0; BigTIFF where the file could pass 4 GiB).

Pillow reads few of the layouts of TIFF, and takes some for others without an error; OpenCV has no gray + alpha.
"""

from dataclasses import fields
from typing import BinaryIO

import numpy as np
from PIL import Image

from realsr.imaging.decoding import FileContent, check_size, damage_error, row_bands
from realsr.imaging.exif import DESCRIPTIVE, exif_from_tiff, tiff_tags
from realsr.imaging.formats import Layout
from realsr.imaging.photo import Metadata
from realsr.imaging.png import fast_deflate
from realsr.imaging.tags import BYTE, LONG, LONG8, SHORT, UNDEFINED, Directory, Value, header, integers, write_directory
from realsr.imaging.tiff_layout import CMYK, GRAY_WHITE_IS_ZERO, JPEG, LAB, WEBP, YCBCR, TiffLayout, read_layout
from realsr.imaging.tiff_segments import read_segments, unpack_samples

_ROWS = 64  # readers limit the size of a strip
_LIMIT = 2**32
_PILLOW_MODES = {CMYK: "CMYK", YCBCR: "YCbCr", LAB: "LAB"}
_ICC, _XMP, _IPTC = 34675, 700, 33723
_LAYOUT = frozenset(  # the tags of how the pixels are stored, and of the place among other pages
    [*range(254, 269), *range(273, 282), 284, *range(288, 294), 297, 317, 320, *range(321, 326)]
    + [330, *range(332, 342), 347, *range(512, 522), *range(529, 533)]
)
_NAMES = {
    301: "transfer function",
    318: "white point of its colours",
    319: "primaries of its colours",
    34377: "image resources of Photoshop",
    37724: "layers of Photoshop",
}


def decode_tiff(data: bytes, name: str, damaged: str, with_metadata: bool) -> FileContent:
    """Decode the first picture of a TIFF file that is no preview (see `image_files.decode_photo`)."""
    layout = read_layout(data, name)
    height, width, _ = layout.shape
    check_size(width, height, name)
    raw = np.empty(layout.shape, np.uint16 if layout.bits == 16 else np.uint8)
    damage = None
    high, wide = layout.segment
    across = -(-width // wide)
    for number, (part, reason) in enumerate(read_segments(data, layout, name, damaged)):
        damage = damage or (reason and f"{'tile' if layout.tiled else 'strip'} {number}: {reason}")
        if damage and damaged != "accept":
            raise damage_error(name, damage)
        plane, place = divmod(number, -(-height // high) * across)
        top, left = place // across * high, place % across * wide
        samples = unpack_samples(part, layout, high if layout.tiled else min(high, height - top))
        target = raw[top : top + high, left : left + wide, slice(plane, plane + 1) if layout.planar else slice(None)]
        samples = samples[: target.shape[0], : target.shape[1]]
        if layout.differences:
            np.cumsum(samples, axis=1, dtype=samples.dtype, out=target)
        else:
            target[...] = samples
    metadata, omissions = _read_metadata(data, layout)
    return FileContent(_interpret(raw, layout), metadata, omissions, layout.orientation, damage)


def _interpret(raw: np.ndarray, layout: TiffLayout) -> np.ndarray:
    """Stored samples -> gray or RGB, of the full range, with straight alpha."""
    if layout.palette is not None:
        alpha = raw[..., layout.alpha : layout.alpha + 1] if layout.alpha is not None else raw[..., :0]
        return np.concatenate([layout.palette[raw[..., 0]], alpha], 2)
    if layout.bits < 8:
        raw *= 255 // (2**layout.bits - 1)
    if (layout.photometric in _PILLOW_MODES and layout.compression not in (JPEG, WEBP)) or layout.photometric == CMYK:
        return _convert(raw[..., : layout.colours], _PILLOW_MODES[layout.photometric])
    channels = [*range(layout.colours)] + ([] if layout.alpha is None else [layout.alpha])
    samples = raw if len(channels) == raw.shape[2] else raw[..., channels]
    if layout.associated:
        _divide_by_alpha(samples)
    if layout.photometric == GRAY_WHITE_IS_ZERO:
        np.invert(samples[..., 0], out=samples[..., 0])
    return samples


def _convert(raw: np.ndarray, mode: str) -> np.ndarray:
    """(H, W, C) uint8 of one of Pillow's modes -> (H, W, 3) RGB, without profiles."""
    samples = np.empty((*raw.shape[:2], 3), np.uint8)
    for rows in row_bands(raw):
        band = raw[rows]
        samples[rows] = Image.frombytes(mode, band.shape[1::-1], band.tobytes()).convert("RGB")
    return samples


def _divide_by_alpha(samples: np.ndarray) -> None:
    top = np.iinfo(samples.dtype).max
    for rows in row_bands(samples):
        band = samples[rows]
        colour = band[..., :-1].astype(np.float64) * top / np.maximum(band[..., -1:], 1)
        band[..., :-1] = np.rint(colour.clip(0, top))


def _read_metadata(data: bytes, layout: TiffLayout) -> tuple[Metadata, list[str]]:
    """Return the metadata of a TIFF file's picture, and what else the file holds, in words."""

    def value(tag: int) -> bytes | None:
        entry = layout.tags.get(tag)
        return bytes(data[entry.start : entry.start + entry.length]) if entry else None

    omissions, exif = list(layout.omissions), None
    try:
        exif = exif_from_tiff(data, layout.position)
    except ValueError:
        omissions.append("EXIF that cannot be read")
    rest = layout.tags.keys() - _LAYOUT - DESCRIPTIVE - {_ICC, _XMP, _IPTC}
    omissions += [name for tag, name in _NAMES.items() if tag in rest]
    if numbers := sorted(rest - _NAMES.keys()):
        omissions.append(f"tag{'' if len(numbers) == 1 else 's'} {', '.join(map(str, numbers))}")
    return Metadata(value(_ICC), exif, value(_XMP), value(_IPTC)), omissions


class TiffEncoder:
    """Writes one TIFF file into `file`, whose position must be 0: strips of `rows` rows, then the tags.

    Compressed by deflate with differences to the left, which OpenCV, Pillow and others read.
    """

    rows = _ROWS

    def __init__(self, file: BinaryIO, layout: Layout, metadata: Metadata):
        self._file, self._layout, self._metadata = file, layout, metadata
        self._photo_tags = tiff_tags(metadata.exif) if metadata.exif else {}
        self._big = _needs_bigtiff(layout, metadata)
        self._starts: list[int] = []
        self._sizes: list[int] = []
        file.write(header(0, self._big))

    def write(self, samples: np.ndarray) -> None:
        """Append one strip of (h, W, C) samples: `rows` of them, fewer only at the end."""
        differences = samples.astype(samples.dtype.newbyteorder("<"), order="C")
        differences[:, 1:] -= samples[:, :-1]
        compressor = fast_deflate()
        strip = compressor.compress(differences.data) + compressor.flush()
        self._starts.append(self._file.tell())
        self._sizes.append(len(strip))
        self._file.write(strip)

    def finish(self) -> None:
        """Write the tags, and at the file's beginning where they are."""
        end = self._file.tell()
        position = end + end % 2
        self._file.write(b"\0" * (end % 2))
        self._file.write(write_directory(self._photo_tags | self._structure(), position, self._big))
        self._file.seek(0)
        self._file.write(header(position, self._big))

    def _structure(self) -> Directory:
        channels, long = self._layout.channels, LONG8 if self._big else LONG
        numbers = {
            256: (LONG, [self._layout.width]),
            257: (LONG, [self._layout.height]),
            258: (SHORT, [self._layout.bits] * channels),
            259: (SHORT, [8]),  # compression: deflate
            262: (SHORT, [1 if channels <= 2 else 2]),  # black is zero, or RGB
            273: (long, self._starts),
            277: (SHORT, [channels]),
            278: (LONG, [_ROWS]),
            279: (long, self._sizes),
            284: (SHORT, [1]),  # channels interleaved
            317: (SHORT, [2]),  # predictor: horizontal differences
        }
        if channels in (2, 4):
            numbers[338] = (SHORT, [2])  # the extra sample is alpha, not premultiplied
        tags: Directory = {tag: integers(kind, *values) for tag, (kind, values) in numbers.items()}
        metadata = self._metadata
        values = ((_ICC, UNDEFINED, metadata.icc), (_XMP, BYTE, metadata.xmp), (_IPTC, UNDEFINED, metadata.iptc))
        for tag, kind, value in values:
            if value is not None:
                tags[tag] = Value(kind, value)
        return tags


def _needs_bigtiff(layout: Layout, metadata: Metadata) -> bool:
    samples = layout.row_bytes * layout.height
    metadata_bytes = sum(len(getattr(metadata, part.name) or b"") for part in fields(metadata))
    # Deflate may add a little to what it cannot compress.
    return samples + samples // 100 + metadata_bytes + 16 * layout.height + 2**20 >= _LIMIT
