"""Writes TIFF by rows, 8 and 16 bit (TIFF 6.0; BigTIFF where the file could pass 4 GiB)."""

from dataclasses import fields
from typing import BinaryIO

import numpy as np

from realsr.imaging.exif import tiff_tags
from realsr.imaging.formats import Layout
from realsr.imaging.photo import Metadata
from realsr.imaging.png import fast_deflate
from realsr.imaging.tags import BYTE, LONG, LONG8, SHORT, UNDEFINED, Directory, Value, header, integers, write_directory
from realsr.imaging.tiff_metadata import ICC, IPTC, XMP

_ROWS = 64  # readers limit the size of a strip
_LIMIT = 2**32


class TiffEncoder:
    """Writes one TIFF file into `file`, whose position must be 0: strips of `rows` rows, then the tags.

    Compressed by deflate with differences to the left, which OpenCV, Pillow and others read.
    """

    rows = _ROWS

    def __init__(self, file: BinaryIO, layout: Layout, metadata: Metadata):
        self._file, self._layout, self._metadata = file, layout, metadata
        self._about = tiff_tags(metadata.exif) if metadata.exif else {}
        self._big = _could_pass_the_limit(layout, metadata)
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
        self._file.write(write_directory(self._about | self._structure(), position, self._big))
        self._file.seek(0)
        self._file.write(header(position, self._big))

    def _structure(self) -> Directory:
        channels, long, about = self._layout.channels, LONG8 if self._big else LONG, self._metadata
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
        for tag, kind, value in ((ICC, UNDEFINED, about.icc), (XMP, BYTE, about.xmp), (IPTC, UNDEFINED, about.iptc)):
            if value is not None:
                tags[tag] = Value(kind, value)
        return tags


def _could_pass_the_limit(layout: Layout, metadata: Metadata) -> bool:
    samples = layout.row_bytes * layout.height
    about = sum(len(getattr(metadata, part.name) or b"") for part in fields(metadata))
    return (
        samples + samples // 100 + about + 16 * layout.height + 2**20 >= _LIMIT
    )  # deflate may add a little to what it cannot compress
