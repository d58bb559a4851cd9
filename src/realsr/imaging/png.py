"""PNG: chunks and decoding by libpng, 8 and 16 bit (PNG, third edition)."""

import logging
import struct
import zlib

import imagecodecs

from realsr.core.errors import ImageError
from realsr.imaging.exif import CENTIMETRE, resolution_exif
from realsr.imaging.formats import DamageError, check_size, content_error
from realsr.imaging.photo import Metadata, Photo, count_words, find_orientation

# The errors that imagecodecs logs are raised as ImageError.
logging.getLogger("imagecodecs").setLevel(logging.CRITICAL)

_SIGNATURE_BYTES = 8
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_DEFLATE_RATIO = 1032  # the maximum compression ratio of deflate
_LONGEST_SIDE = 10**6  # pixels, libpng's limit
_MAX_INFLATED = 2**28  # bytes of a decompressed profile or text
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


def decode_png(data: bytes, name: str, damaged: str, with_metadata: bool) -> tuple[Photo, int]:
    """Decode the contents of a PNG file."""
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
    metadata, text_omissions = _read_metadata(ancillary)
    photo = Photo(samples, metadata, omissions=(*omissions, *text_omissions))
    return photo, find_orientation(metadata)


def _read_chunks(data: bytes) -> tuple[list[tuple[bytes, bytes]], list[str]]:
    """Return a PNG's ancillary chunks, and descriptions of those left out. Raises DamageError."""
    view, position, kind = memoryview(data), _SIGNATURE_BYTES, b""
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
