"""The checksums in PNG and TIFF files, which their decoders do not all look at."""

import struct
import zlib

from PIL import Image

from realsr.imaging.jpeg_decoding import decode_jpeg

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_STRIPS, _TILES, _JPEG_TABLES, _COMPRESSION = (273, 279), (324, 325), 347, 259
_JPEG, _DEFLATE = (7,), (8, 32946)
_PIECE = 2**16


def check_png(data: bytes) -> tuple[bytes, list[str]]:
    """Check all checksums of a PNG file's contents.

    Returns the contents without the damaged chunks that do not matter to pixels, and the kinds of these, such as iCCP.

    Raises ValueError for damage to the others, and for contents that end before the end chunk.
    """
    view, position, kind = memoryview(data), len(PNG_SIGNATURE), b""
    sound, left_out = [view[:position]], list[str]()
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, position) if position + 12 <= len(data) else (len(data), b"")
        end = position + 12 + length
        if end > len(data):
            raise ValueError("it ends before its end chunk")
        if view[end - 4 : end] == struct.pack(">I", zlib.crc32(view[position + 4 : end - 4])):
            sound.append(view[position:end])
        elif kind[0] & 0x20 and kind != b"tRNS":  # an ancillary chunk; transparency is one
            left_out.append(kind.decode("latin-1"))
        else:
            raise ValueError(f"wrong checksum of {kind.decode('latin-1')}")
        position = end
    return b"".join(sound) if left_out else data, left_out


def check_tiff(image: Image.Image, data: bytes) -> str | None:
    """Return what is wrong with a TIFF's strips or tiles, None for nothing; only those of deflate and JPEG can tell."""
    tags = image.tag_v2  # type: ignore[attr-defined]
    kind = tags.get(_COMPRESSION)
    starts, lengths = (tags.get(tag, ()) for tag in (_STRIPS if _STRIPS[0] in tags else _TILES))
    colour = {"L": "GRAY", "CMYK": "CMYK"}.get(image.mode, "RGB")
    for number, (start, length) in enumerate(zip(starts, lengths, strict=False)):
        part, reason = memoryview(data)[start : start + length], None
        if kind in _DEFLATE:
            reason = _check_deflate(part)
        elif kind in _JPEG:
            tables = tags.get(_JPEG_TABLES, b"\xff\xd8\xff\xd9")
            reason = decode_jpeg(tables[:-2] + part[2:], colour, "refuse")[1]
        if reason is not None:
            return f"strip {number}: {reason}"
    return None


def _check_deflate(data: memoryview) -> str | None:
    decompressor = zlib.decompressobj()
    try:
        for position in range(0, len(data), _PIECE):  # a whole strip may hold all samples of a large photo
            decompressor.decompress(data[position : position + _PIECE])
    except zlib.error as error:
        return str(error)
    return None
