"""PNG: chunks, decoding by libpng, encoding by rows; 8 and 16 bit (PNG, third edition)."""

import logging
import struct
import zlib
from typing import BinaryIO

import imagecodecs
import numpy as np

from realsr.core.errors import ImageError
from realsr.imaging.decoding import DamageError, FileContent, check_size, content_error
from realsr.imaging.deflate import (
    ZLIB_HEADER,
    OrderedThreads,
    adler32,
    append_adler,
    crc32,
    deflate_part,
)
from realsr.imaging.exif import CENTIMETRE, resolution_exif
from realsr.imaging.formats import Layout
from realsr.imaging.photo import Metadata, count_words, find_orientation

# The errors that imagecodecs logs are raised as ImageError.
logging.getLogger("imagecodecs").setLevel(logging.CRITICAL)

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> gray, gray + alpha, RGB, RGBA
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_DEFLATE_RATIO = 1032  # the maximum compression ratio of deflate
_LONGEST_SIDE = 10**6  # pixels, libpng's limit
_MAX_INFLATED = 2**28  # bytes of a decompressed profile or text
_BLOCK = 2**18  # bytes of samples that are compressed together; they fit into the cache of a core
# Chunks that do not affect the image (background, palettes, histogram, significant bits, time), and
# those that state sRGB, which is the default.
_SILENT = {
    b"sRGB": None,
    b"gAMA": struct.pack(">I", 45455),
    b"cHRM": struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000),
    **dict.fromkeys((b"bKGD", b"hIST", b"sPLT", b"sBIT", b"tIME", b"acTL", b"fdAT")),
}
_NAMES = {
    **dict.fromkeys((b"tEXt", b"zTXt", b"iTXt"), "texts"),
    b"gAMA": "gamma",
    b"cHRM": "primaries of its colours",
    b"cICP": "coding of its colours (cICP)",
    b"pHYs": "shape of its pixels",
    b"iCCP": "colour profile",
    b"eXIf": "EXIF",
}


def decode_png(data: bytes, name: str, damaged: str, with_metadata: bool) -> FileContent:
    """Decode a PNG file's contents (see `image_files.decode_photo`)."""
    ancillary, omissions = _read_chunks(data)
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    if height * (width * bits * _CHANNELS.get(colour, 1) // 8) > _DEFLATE_RATIO * len(data):
        raise ImageError(
            f"{name} declares {width}x{height} pixels, more than its {len(data)} bytes can hold. "
            "It is damaged: copy it again, or remove it."
        )
    check_size(width, height, name)
    if max(width, height) > _LONGEST_SIDE:
        raise content_error(name, f"a PNG with a side of more than {_LONGEST_SIDE} pixels")
    samples = imagecodecs.png_decode(data).reshape(height, width, -1)
    metadata, more = _read_metadata(ancillary)
    return FileContent(samples, metadata, omissions + more, find_orientation(metadata))


def _read_chunks(data: bytes) -> tuple[list[tuple[bytes, bytes]], list[str]]:
    """Return a PNG's ancillary chunks, and descriptions of those left out. Raises DamageError."""
    view, position, kind = memoryview(data), len(_SIGNATURE), b""
    ancillary, omissions, frames, has_pixels = list[tuple[bytes, bytes]](), list[str](), 0, False
    while kind != b"IEND":
        length, kind = len(data), b""
        if position + 12 <= len(data):
            length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise DamageError("it ends before its end chunk")
        # A lower-case first letter marks an ancillary chunk.
        is_essential = not kind[0] & 0x20 or kind == b"tRNS"
        if view[end - 4 : end] != struct.pack(">I", zlib.crc32(view[position + 4 : end - 4])):
            if is_essential:
                raise DamageError(f"wrong checksum of its {_name(kind)}")
            omissions.append(f"damaged {_name(kind)}")
        elif kind == b"fcTL":
            frames += has_pixels  # the frame control of the still image precedes its pixels
        elif not is_essential:
            ancillary.append((kind, bytes(view[position + 8 : end - 4])))
        has_pixels |= kind == b"IDAT"
        position = end
    return ancillary, omissions + [count_words(frames, "further frame")] * (frames > 0)


def _read_metadata(chunks: list[tuple[bytes, bytes]]) -> tuple[Metadata, list[str]]:
    values = dict[str, bytes]()
    omissions, resolution, is_srgb = list[str](), None, False
    for kind, body in chunks:
        text = body.partition(b"\0")[0]
        try:
            if kind == b"iCCP":
                values["icc"] = _inflate(body[len(text) + 2 :])
            elif kind == b"eXIf":
                values["exif"] = body
            elif kind in (b"tEXt", b"zTXt") and text == b"Raw profile type exif":
                profile = body[len(text) + 1 :]
                if kind == b"zTXt":
                    profile = _inflate(profile[1:])
                digits = "".join(profile.decode("latin-1").split()[2:])
                values.setdefault("exif", bytes.fromhex(digits))
            elif kind == b"iTXt" and text == b"XML:com.adobe.xmp":
                # The packet follows the language and the translated keyword.
                packet = body[len(text) + 3 :].split(b"\0", 2)[2]
                values["xmp"] = _inflate(packet) if body[len(text) + 1] else packet
            elif kind == b"pHYs" and body[8] == 1:  # pixels per metre
                resolution = resolution_exif(struct.unpack_from(">II", body), 100, CENTIMETRE)
            elif kind not in _SILENT or _SILENT[kind] not in (None, body):
                omissions.append(_name(kind))
            is_srgb |= kind == b"sRGB"
        except (ValueError, IndexError, struct.error, zlib.error):
            omissions.append(f"unreadable {_name(kind)}")
    if resolution is not None:
        values.setdefault("exif", resolution)
    if is_srgb or "icc" in values:  # they take precedence over gamma and primaries
        omissions = [name for name in omissions if name not in (_NAMES[b"gAMA"], _NAMES[b"cHRM"])]
    return Metadata(**values), list(dict.fromkeys(omissions))


def _name(kind: bytes) -> str:
    return _NAMES.get(kind, f"chunk {kind.decode('latin-1')}")


def _inflate(data: bytes) -> bytes:
    return zlib.decompressobj().decompress(data, _MAX_INFLATED)


class PngEncoder:
    """Writes one PNG file into `file`. `write` takes `rows` rows at a time, fewer only at the end.

    All rows have the filter Average, since a search for the best filter of each row saves too
    little space for its time (figures in docs/use/files.md). Each call of `write` becomes one part
    of the deflate stream, and one IDAT chunk. The bytes do not depend on the number of threads.
    """

    def __init__(self, file: BinaryIO, layout: Layout, metadata: Metadata):
        self.rows = max(1, _BLOCK // layout.row_bytes)
        self._file, self._threads = file, OrderedThreads(self._append)
        self._step = layout.channels * layout.bits // 8
        self._above = np.zeros(layout.row_bytes, np.uint8)
        file.write(_SIGNATURE)
        form = (layout.bits, _COLOUR_TYPE[layout.channels], 0, 0, 0)
        self._chunk(b"IHDR", struct.pack(">IIBBBBB", layout.width, layout.height, *form))
        if metadata.icc is not None:
            self._chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc))
        if metadata.exif is not None:
            self._chunk(b"eXIf", metadata.exif)
        if metadata.xmp is not None:
            self._chunk(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + metadata.xmp)
        self._missing_rows = layout.height
        self._start, self._checksum = ZLIB_HEADER, 1  # of the compressed rows

    def write(self, samples: np.ndarray) -> None:
        """Append (h, W, C) samples, which must not change before `finish`."""
        rows = self._to_bytes(samples)
        self._missing_rows -= len(rows)
        self._threads.submit(self._compress, rows, self._above, self._missing_rows == 0)
        self._above = rows[-1]

    def finish(self) -> None:
        """Write the remaining rows, the checksum and the end chunk."""
        self._threads.finish()
        self._chunk(b"IDAT", struct.pack(">I", self._checksum))
        self._chunk(b"IEND", b"")

    def _to_bytes(self, samples: np.ndarray) -> np.ndarray:
        big_endian = samples.astype(samples.dtype.newbyteorder(">"), copy=False)
        return np.ascontiguousarray(big_endian).view(np.uint8).reshape(len(samples), -1)

    def _compress(
        self, rows: np.ndarray, above: np.ndarray, is_last: bool
    ) -> tuple[bytes, int, int]:
        """Return compressed rows, and the checksum and number of the bytes before compression."""
        data = average(rows, above, self._step)
        return deflate_part(data, is_last), adler32(data), data.size

    def _append(self, block: tuple[bytes, int, int]) -> None:
        part, checksum, size = block
        self._chunk(b"IDAT", self._start + part)
        self._start, self._checksum = b"", append_adler(self._checksum, checksum, size)

    def _chunk(self, kind: bytes, body: bytes) -> None:
        for part in (struct.pack(">I", len(body)), kind, body):
            self._file.write(part)
        self._file.write(struct.pack(">I", crc32(body, crc32(kind))))


class ZlibPngEncoder(PngEncoder):
    """Writes the PNG files of earlier versions, for `rebuild_pair`: one stream, compressed by zlib."""

    def __init__(self, file: BinaryIO, layout: Layout, metadata: Metadata):
        super().__init__(file, layout, metadata)
        self.rows = 64
        run_lengths = zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE
        self._compressor = zlib.compressobj(1, zlib.DEFLATED, *run_lengths)

    def write(self, samples: np.ndarray) -> None:
        """Append (h, W, C) samples."""
        rows = self._to_bytes(samples)
        data = self._compressor.compress(average(rows, self._above, self._step).data)
        self._above = rows[-1]
        self._missing_rows -= len(rows)
        if self._missing_rows == 0:
            data += self._compressor.flush()
        if data:
            self._chunk(b"IDAT", data)

    def finish(self) -> None:
        """Write the end chunk."""
        self._chunk(b"IEND", b"")


def average(rows: np.ndarray, above: np.ndarray, step: int) -> np.ndarray:
    """Apply the filter Average to rows of bytes: (h, n) -> (h, 1 + n) uint8.

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
