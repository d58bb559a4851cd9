"""The chunks of a PNG file: their checksums, and what they tell besides the pixels (PNG, third edition)."""

import struct
import zlib
from dataclasses import dataclass

from realsr.imaging.exif import CENTIMETRE, resolution_exif
from realsr.imaging.photo import Metadata, count_words
from realsr.imaging.picture import DamageError

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LARGEST = 2**28  # bytes of a profile or a text when it is decompressed
# What says the same of a picture as leaving it out does: it is sRGB. Or nothing of it: a proposal for a background and
# for a smaller palette, the frequency of colours, the bits that were of use, the time of the last change.
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
    b"IHDR": "header",
    b"PLTE": "palette",
    b"tRNS": "transparency",
    b"IDAT": "pixels",
    b"IEND": "end",
}


@dataclass(frozen=True)
class PngChunks:
    """The contents of a PNG file.

    pixels: the file without the chunks that do not matter to pixels. bits, colour: bit depth and colour type.
    omissions: what is not in the metadata, in words.
    """

    pixels: bytes
    width: int
    height: int
    bits: int
    colour: int
    metadata: Metadata
    omissions: list[str]


def read_chunks(data: bytes) -> PngChunks:
    """Take a PNG file apart. Raises DamageError for damage to what matters to pixels."""
    view, position, kind = memoryview(data), len(PNG_SIGNATURE), b""
    pixels, ancillary, omissions, frames = [view[:position]], list[tuple[bytes, bytes]](), list[str](), 0
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, position) if position + 12 <= len(data) else (len(data), b"")
        end = position + 12 + length
        if end > len(data):
            raise DamageError("it ends before its end chunk")
        essential = not kind[0] & 0x20 or kind == b"tRNS"  # a small first letter says that a chunk is ancillary
        if view[end - 4 : end] != struct.pack(">I", zlib.crc32(view[position + 4 : end - 4])):
            if essential:
                raise DamageError(f"wrong checksum of its {_name(kind)}")
            omissions.append(f"damaged {_name(kind)}")
        elif essential:
            pixels.append(view[position:end])
        elif kind == b"fcTL":
            frames += any(part[4:8] == b"IDAT" for part in pixels)  # one before it is that of the still picture
        else:
            ancillary.append((kind, bytes(view[position + 8 : end - 4])))
        position = end
    if bytes(view[12:16]) != b"IHDR":
        raise DamageError("its header is missing")
    metadata, more = _read_metadata(ancillary)
    omissions += [count_words(frames, "further frame")] * (frames > 0) + more
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    contents = b"".join(pixels) if sum(map(len, pixels)) < position else data
    return PngChunks(contents, width, height, bits, colour, metadata, omissions)


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
                profile = body[len(text) + 1 :] if kind == b"tEXt" else _inflate(body[len(text) + 2 :])
                values.setdefault("exif", bytes.fromhex("".join(profile.decode("latin-1").split()[2:])))
            elif kind == b"iTXt" and text == b"XML:com.adobe.xmp":
                packet = body[len(text) + 3 :].split(b"\0", 2)[2]  # after the language and the keyword in it
                values["xmp"] = _inflate(packet) if body[len(text) + 1] else packet
            elif kind == b"pHYs" and body[8] == 1:  # pixels in a metre
                resolution = resolution_exif(struct.unpack_from(">II", body), 100, CENTIMETRE)
            elif kind not in _SILENT or _SILENT[kind] not in (None, body):
                omissions.append(_name(kind))
            is_srgb |= kind == b"sRGB"
        except (ValueError, IndexError, struct.error, zlib.error):
            omissions.append(f"unreadable {_name(kind)}")
    if resolution is not None:
        values.setdefault("exif", resolution)
    if is_srgb or "icc" in values:  # which hold instead of these
        omissions = [name for name in omissions if name not in (_NAMES[b"gAMA"], _NAMES[b"cHRM"])]
    return Metadata(**values), list(dict.fromkeys(omissions))


def _name(kind: bytes) -> str:
    return _NAMES.get(kind, f"chunk {kind.decode('latin-1')}")


def _inflate(data: bytes) -> bytes:
    return zlib.decompressobj().decompress(data, _LARGEST)
