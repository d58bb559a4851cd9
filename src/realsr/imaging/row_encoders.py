"""PNG and TIFF: encoding by rows, 8 and 16 bit, compressed by ISA-L in several threads.

Deflate (RFC 1951) compresses blocks of rows. Where ISA-L is not installed, since no wheels exist
for the platform, zlib replaces it. No library writes single TIFF strips and unchanged metadata;
OpenCV does not support gray + alpha.
"""

import struct
import zlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields
from typing import Any, BinaryIO

import numpy as np
import torch

from realsr.imaging.exif import (
    BYTE,
    ICC,
    IPTC,
    LONG,
    LONG8,
    SHORT,
    UNDEFINED,
    XMP,
    Directory,
    Value,
    header,
    integers,
    tiff_tags,
    write_directory,
)
from realsr.imaging.formats import Layout
from realsr.imaging.photo import Metadata

try:
    from isal import isal_zlib
except ImportError:
    isal_zlib = None  # type: ignore[assignment]

adler32 = zlib.adler32 if isal_zlib is None else isal_zlib.adler32
crc32 = zlib.crc32 if isal_zlib is None else isal_zlib.crc32

ZLIB_HEADER = b"\x78\x01"  # deflate with a window of 32 KiB, fast (RFC 1950)
_LEVEL = 1  # levels 0 to 2 of ISA-L give the same bytes on all x86-64 with SSE4.2, 3 does not
_RAW = -15  # a window of 32 KiB without header and checksum
_ADLER_MODULUS = 65521
_RUN_LENGTHS = zlib.DEF_MEM_LEVEL, zlib.Z_RLE  # zlib's fast form for filtered images

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> gray, gray + alpha, RGB, RGBA
_BLOCK = 2**18  # bytes of samples that are compressed together; they fit into the cache of a core
_STRIP_ROWS = 64  # per strip of a TIFF, whose size some readers limit
_LIMIT = 2**32  # bytes of a TIFF that is not a BigTIFF


def deflate_part(data: Any, is_last: bool) -> bytes:
    """Return a part of a deflate stream, which ends at a byte boundary and refers to no other part."""
    if isal_zlib is None:
        compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW, *_RUN_LENGTHS)
    else:
        compressor = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _RAW)
    part = compressor.compress(data)
    return bytes(part + compressor.flush(zlib.Z_FINISH if is_last else zlib.Z_SYNC_FLUSH))


def append_adler(first: int, second: int, size: int) -> int:
    """Return the Adler-32 checksum of two concatenated parts from those of the parts.

    first, second: checksums; size: bytes of the second part. RFC 1950, section 8.2: a checksum is
    b * 65536 + a, with a = 1 + the sum of the bytes and b = the sum of all values of a, mod 65521.
    """
    a_first, a_second = first & 0xFFFF, second & 0xFFFF
    a = (a_first + a_second - 1) % _ADLER_MODULUS
    b = ((first >> 16) + (second >> 16) + size * (a_first - 1)) % _ADLER_MODULUS
    return b << 16 | a


class OrderedThreads:
    """Computes blocks in threads and passes the results on in the order of the blocks.

    The number of threads is torch's; with one, blocks are computed in the calling thread. `consume`
    is called in the calling thread. At most two blocks per thread are in memory, so that a thread
    need not wait while an earlier block is compressed.
    """

    def __init__(self, consume: Callable[[Any], None]):
        self._consume, self._threads = consume, torch.get_num_threads()
        self._pool: ThreadPoolExecutor | None = None
        self._pending = deque[Future[Any]]()

    def submit(self, compute: Callable[..., Any], *arguments: Any) -> None:
        """Start compute(*arguments); consume earlier results. Raises their errors."""
        if self._threads == 1:
            self._consume(compute(*arguments))
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, "deflate")
        self._pending.append(self._pool.submit(compute, *arguments))
        while len(self._pending) > 2 * self._threads:
            self._consume(self._pending.popleft().result())

    def finish(self) -> None:
        """Consume the remaining results and end the threads."""
        while self._pending:
            self._consume(self._pending.popleft().result())
        if self._pool is not None:
            self._pool.shutdown()


class PngEncoder:
    """Writes one PNG file into `file`. `write` takes `rows` rows at a time, fewer only at the end.

    All rows have the filter Average, since a search for the best filter of each row saves too
    little space for its time (figures in docs/use/files.md). Each call of `write` becomes one part
    of the deflate stream, and one IDAT chunk. The bytes do not depend on the number of threads.
    """

    def __init__(self, file: BinaryIO, layout: Layout, metadata: Metadata):
        self.rows = max(1, _BLOCK // layout.row_bytes)
        self._file, self._layout, self._threads = file, layout, OrderedThreads(self._append)
        self._above = np.zeros(layout.row_bytes, np.uint8)
        file.write(_png_head(layout))
        if metadata.icc is not None:
            file.write(_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)))
        if metadata.exif is not None:
            file.write(_chunk(b"eXIf", metadata.exif))
        if metadata.xmp is not None:
            file.write(_chunk(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + metadata.xmp))
        self._remainder = layout.height
        self._start, self._checksum = ZLIB_HEADER, 1  # of the compressed rows

    def write(self, samples: np.ndarray) -> None:
        """Append (h, W, C) samples, which must not change before `finish`."""
        rows = _to_bytes(samples)
        self._remainder -= len(rows)
        self._threads.submit(self._compress, rows, self._above, self._remainder == 0)
        self._above = rows[-1]

    def finish(self) -> None:
        """Write the remaining rows, the checksum and the end chunk."""
        self._threads.finish()
        self._file.write(_chunk(b"IDAT", struct.pack(">I", self._checksum)) + _chunk(b"IEND"))

    def _compress(
        self, rows: np.ndarray, above: np.ndarray, is_last: bool
    ) -> tuple[bytes, int, int]:
        """Return compressed rows, and the checksum and number of the bytes before compression."""
        data = average(rows, above, self._layout.pixel_bytes)
        return deflate_part(data, is_last), adler32(data), data.size

    def _append(self, block: tuple[bytes, int, int]) -> None:
        part, checksum, size = block
        self._file.write(_chunk(b"IDAT", self._start + part))
        self._start, self._checksum = b"", append_adler(self._checksum, checksum, size)


def encode_zlib_png(image_uint8: np.ndarray) -> bytes:
    """Return the contents of the PNG file that `write_uint8` of earlier versions wrote.

    Its rows are one stream, compressed by zlib. For `rebuild_pair`.
    """
    compressor = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, *_RUN_LENGTHS)
    layout, rows = Layout.of(image_uint8), _to_bytes(image_uint8)
    bodies, above = list[bytes](), np.zeros(layout.row_bytes, np.uint8)
    for top in range(0, layout.height, 64):  # bands, which fit the cache
        band = rows[top : top + 64]
        bodies.append(compressor.compress(average(band, above, layout.pixel_bytes).data))
        above = band[-1]
    bodies[-1] += compressor.flush()
    chunks = [_chunk(b"IDAT", body) for body in bodies if body]
    return b"".join((_png_head(layout), *chunks, _chunk(b"IEND")))


def average(rows: np.ndarray, above: np.ndarray, step: int) -> np.ndarray:
    """Apply PNG's filter Average to rows of bytes: (h, n) -> (h, 1 + n) uint8.

    Each row becomes the filter's number, and each byte less the mean, rounded down, of the bytes to
    the left and above.

    above: (n,), the row before the first; step: bytes per pixel.
    """
    padded = np.zeros((len(rows) + 1, step + rows.shape[1]), np.uint8)
    padded[0, step:], padded[1:, step:] = above, rows
    left, up = padded[1:, :-step], padded[:-1, step:]
    # The mean in 8 bits: the common bits, and half of the different bits.
    mean = (left & up) + ((left ^ up) >> 1)
    result = np.empty((len(rows), 1 + rows.shape[1]), np.uint8)
    result[:, 0] = 3  # Average
    np.subtract(rows, mean, out=result[:, 1:])
    return result


def _to_bytes(samples: np.ndarray) -> np.ndarray:
    big_endian = samples.astype(samples.dtype.newbyteorder(">"), copy=False)
    return np.ascontiguousarray(big_endian).view(np.uint8).reshape(len(samples), -1)


def _png_head(layout: Layout) -> bytes:
    form = (layout.bits, _COLOUR_TYPE[layout.channels], 0, 0, 0)
    return _SIGNATURE + _chunk(b"IHDR", struct.pack(">IIBBBBB", layout.width, layout.height, *form))


def _chunk(kind: bytes, body: bytes = b"") -> bytes:
    checksum = crc32(body, crc32(kind))
    return b"".join((struct.pack(">I", len(body)), kind, body, struct.pack(">I", checksum)))


class TiffEncoder:
    """Writes one TIFF file into `file`, which must be at position 0: strips, then the tags.

    Strips of `rows` rows are compressed by deflate with horizontal differences, which OpenCV,
    Pillow and others read. A file that could exceed 4 GiB is a BigTIFF.
    """

    rows = _STRIP_ROWS

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
        self._threads.submit(_compress_strip, samples)

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
            278: (LONG, [_STRIP_ROWS]),
            279: (long, self._sizes),
            284: (SHORT, [1]),  # channels interleaved
            317: (SHORT, [2]),  # predictor: horizontal differences
        }
        if channels in (2, 4):
            numbers[338] = (SHORT, [2])  # the extra sample is alpha, not premultiplied
        tags: Directory = {tag: integers(kind, *values) for tag, (kind, values) in numbers.items()}
        for tag, kind, value in (
            (ICC, UNDEFINED, self._metadata.icc),
            (XMP, BYTE, self._metadata.xmp),
            (IPTC, UNDEFINED, self._metadata.iptc),
        ):
            if value is not None:
                tags[tag] = Value(kind, value)
        return tags


def _compress_strip(samples: np.ndarray) -> bytes:
    """Return a strip's horizontal differences as a complete zlib stream (RFC 1950)."""
    differences = samples.astype(samples.dtype.newbyteorder("<"), order="C")
    differences[:, 1:] -= samples[:, :-1]
    checksum = adler32(differences).to_bytes(4, "big")
    return ZLIB_HEADER + deflate_part(differences, True) + checksum


def _needs_bigtiff(layout: Layout, metadata: Metadata) -> bool:
    samples = layout.row_bytes * layout.height
    metadata_bytes = sum(len(getattr(metadata, part.name) or b"") for part in fields(metadata))
    # Deflate may slightly enlarge data that it cannot compress.
    return samples + samples // 100 + metadata_bytes + 16 * layout.height + 2**20 >= _LIMIT
