"""Writes WebP, which needs the whole picture at once: about 28 bytes a pixel while it is compressed."""

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
        self._image.save(self._file, "WEBP", lossless=True, quality=20, exact=True, **about)
