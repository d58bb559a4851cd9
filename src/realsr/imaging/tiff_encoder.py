"""TIFF: encoding by rows, 8 and 16 bit (TIFF 6.0; BigTIFF for files that could exceed 4 GiB).

No library writes single strips and unchanged metadata; OpenCV does not support gray + alpha.
"""

from dataclasses import fields
from typing import BinaryIO

import numpy as np

from realsr.imaging.deflate import OrderedThreads, zlib_stream
from realsr.imaging.exif import (
    BYTE,
    LONG,
    LONG8,
    SHORT,
    UNDEFINED,
    Directory,
    Value,
    header,
    integers,
    tiff_tags,
    write_directory,
)
from realsr.imaging.formats import Layout
from realsr.imaging.photo import Metadata

ICC, XMP, IPTC = 34675, 700, 33723
_ROWS = 64  # per strip, whose size some readers limit
_LIMIT = 2**32


class TiffEncoder:
    """Writes one TIFF file into `file`, which must be at position 0: strips, then the tags.

    Strips of `rows` rows are compressed by deflate with horizontal differences, which OpenCV,
    Pillow and others read.
    """

    rows = _ROWS

    def __init__(self, file: BinaryIO, layout: Layout, metadata: Metadata):
        self._file, self._layout, self._metadata = file, layout, metadata
        self._photo_tags = tiff_tags(metadata.exif) if metadata.exif else {}
        self._big = _needs_bigtiff(layout, metadata)
        self._threads = OrderedThreads(self._append)
        self._starts: list[int] = []
        self._sizes: list[int] = []
        file.write(header(0, self._big))

    def write(self, samples: np.ndarray) -> None:
        """Append one strip of (h, W, C) samples: `rows` of them, fewer only at the end.

        They must not change before `finish`.
        """
        self._threads.submit(_compress, samples)

    def _append(self, strip: bytes) -> None:
        self._starts.append(self._file.tell())
        self._sizes.append(len(strip))
        self._file.write(strip)

    def finish(self) -> None:
        """Write the remaining strips, the tags, and their position into the header."""
        self._threads.finish()
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
        values = (
            (ICC, UNDEFINED, metadata.icc),
            (XMP, BYTE, metadata.xmp),
            (IPTC, UNDEFINED, metadata.iptc),
        )
        for tag, kind, value in values:
            if value is not None:
                tags[tag] = Value(kind, value)
        return tags


def _compress(samples: np.ndarray) -> bytes:
    differences = samples.astype(samples.dtype.newbyteorder("<"), order="C")
    differences[:, 1:] -= samples[:, :-1]
    return zlib_stream(differences)


def _needs_bigtiff(layout: Layout, metadata: Metadata) -> bool:
    samples = layout.row_bytes * layout.height
    metadata_bytes = sum(len(getattr(metadata, part.name) or b"") for part in fields(metadata))
    # Deflate may slightly enlarge data that it cannot compress.
    return samples + samples // 100 + metadata_bytes + 16 * layout.height + 2**20 >= _LIMIT
