"""Writes WebP, which needs the whole picture at once: about 28 bytes a pixel while it is compressed."""

import io
from typing import BinaryIO

import numpy as np
from PIL import Image

from realsr.imaging.formats import Layout
from realsr.imaging.photo import Metadata


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
        about = {"icc_profile": self._metadata.icc, "exif": self._metadata.exif, "xmp": self._metadata.xmp}
        about = {name: value for name, value in about.items() if value is not None}
        # Without loss, quality is effort: the default of 80 takes four times as long for files 0 to 3 % smaller.
        memory = io.BytesIO()
        self._image.save(memory, "WEBP", lossless=True, quality=20, exact=True, **about)
        if self._image.mode == "RGBA":
            _mark_alpha(memory.getbuffer())
        self._file.write(memory.getbuffer())


def _mark_alpha(data: memoryview) -> None:
    """Say in a lossless WebP file's headers that it has alpha, which libwebp does not where all of it is opaque."""
    start = 12  # RIFF, a size, WEBP; then chunks of a name, a size and contents of even length
    while True:
        name, size = bytes(data[start : start + 4]), int.from_bytes(data[start + 4 : start + 8], "little")
        if name == b"VP8X":
            data[start + 8] |= 0x10
        elif name == b"VP8L":  # a signature; 14 bits each of width and height less 1; whether there is alpha
            data[start + 12] |= 0x10
            return
        start += 8 + size + size % 2
