"""What a WebP file tells besides its pixels."""

import struct

from PIL import Image

from realsr.imaging.photo import Metadata, count_words

_CHUNKS = frozenset([b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ICCP", b"EXIF", b"XMP ", b"ANIM", b"ANMF"])


def read_webp_metadata(image: Image.Image, data: bytes) -> tuple[Metadata, list[str]]:
    """Return the metadata of a WebP file that Pillow has opened, and what else it holds, in words."""
    omissions, position = list[str](), 12
    if frames := getattr(image, "n_frames", 1) - 1:
        omissions.append(count_words(frames, "further frame"))
    while position + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, position)
        if kind not in _CHUNKS:
            omissions.append(f"chunk {kind.decode('latin-1').strip()}")
        position += 8 + length + length % 2
    info = image.info
    return Metadata(info.get("icc_profile"), info.get("exif"), info.get("xmp")), list(dict.fromkeys(omissions))
