"""WebP: decoding and encoding by Pillow, which needs the whole picture at once, about 28 bytes a pixel to encode."""

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import Image

from realsr.imaging.decoding import FileContent, check_size, copy_out
from realsr.imaging.formats import Layout
from realsr.imaging.photo import Metadata, count_words, find_orientation

_CHUNKS = frozenset([b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ICCP", b"EXIF", b"XMP ", b"ANIM", b"ANMF"])


def decode_webp(data: bytes, name: str, damaged: str, with_metadata: bool) -> FileContent:
    """Decode a WebP file's contents (see `image_files.decode_photo`)."""
    with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
        check_size(image.width, image.height, name)
        image.load()
        metadata, omissions = _read_metadata(image, data)
        return FileContent(copy_out(image), metadata, omissions, find_orientation(metadata))


def _read_metadata(image: Image.Image, data: bytes) -> tuple[Metadata, list[str]]:
    omissions = list[str]()
    if frames := getattr(image, "n_frames", 1) - 1:
        omissions.append(count_words(frames, "further frame"))
    omissions += [f"chunk {kind.decode('latin-1').strip()}" for kind, _ in _chunks(data) if kind not in _CHUNKS]
    info = image.info
    return Metadata(info.get("icc_profile"), info.get("exif"), info.get("xmp")), list(dict.fromkeys(omissions))


def _chunks(data: bytes | memoryview) -> Iterator[tuple[bytes, int]]:
    """Yield the name of each chunk, and where its contents begin."""
    position = 12  # RIFF, a size, WEBP; then chunks of a name, a size and contents of even length
    while position + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, position)
        yield kind, position + 8
        position += 8 + length + length % 2


class WebpEncoder:
    """Collects one picture and writes it into `file`, lossless; colours under transparent pixels are kept too."""

    rows = 64

    def __init__(self, file: BinaryIO, layout: Layout, metadata: Metadata):
        self._file, self._metadata, self._top = file, metadata, 0
        self._image = Image.new("RGBA" if layout.channels == 4 else "RGB", (layout.width, layout.height))

    def write(self, samples: np.ndarray) -> None:
        """Add (h, W, C) uint8 samples, C = 3 or 4, below those before."""
        self._image.paste(Image.fromarray(np.ascontiguousarray(samples)), (0, self._top))
        self._top += len(samples)

    def finish(self) -> None:
        """Compress and write the picture."""
        metadata = {"icc_profile": self._metadata.icc, "exif": self._metadata.exif, "xmp": self._metadata.xmp}
        metadata = {name: value for name, value in metadata.items() if value is not None}
        # Without loss, quality is effort: the default of 80 takes four times as long for files 0 to 3 % smaller.
        memory = io.BytesIO()
        self._image.save(memory, "WEBP", lossless=True, quality=20, exact=True, **metadata)
        if self._image.mode == "RGBA":
            _mark_alpha(memory.getbuffer())
        self._file.write(memory.getbuffer())


def _mark_alpha(data: memoryview) -> None:
    """Say in a lossless WebP file's headers that it has alpha, which libwebp does not where all of it is opaque."""
    for kind, start in _chunks(data):
        if kind == b"VP8X":
            data[start] |= 0x10
        elif kind == b"VP8L":  # a signature; 14 bits each of width and height less 1; whether there is alpha
            data[start + 4] |= 0x10
            return
