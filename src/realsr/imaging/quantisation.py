"""Quantisation tables and chroma subsampling of JPEG files."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from realsr.imaging.decoding import open_image

# The luma table of ITU-T T.81, annex K.1, which libjpeg scales by its quality.
_LUMA = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)


@dataclass(frozen=True)
class JpegTables:
    """The compression of a JPEG file.

    tables: of 8x8 coefficients in row order, 64 values each; luma first, then chroma.
    subsampling: of the components, e.g. "4:2:0"; "gray" for one component.
    """

    tables: tuple[tuple[int, ...], ...]
    subsampling: str

    @property
    def quality(self) -> int:
        """The quality 1..100 whose scaled luma table of ITU-T T.81 (libjpeg's) is nearest."""
        qualities = np.arange(1, 101)
        factors = np.where(qualities < 50, 5000 / qualities, 200 - 2 * qualities) / 100
        scaled = np.floor(factors[:, None] * _LUMA.ravel() + 0.5).clip(1, 255)
        return int(qualities[np.abs(scaled - np.array(self.tables[0])).sum(1).argmin()])


def read_jpeg_tables(path: Path) -> JpegTables | None:
    """Return the tables of a JPEG file from its header; None for other files."""
    try:
        with path.open("rb") as stream, open_image(stream) as image:
            tables: dict[int, list[int]] = getattr(image, "quantization", {})
            layers: list[tuple[int, int, int, int]] = getattr(image, "layer", [])
    except Exception:  # decoders raise many types; reading the image reports the reason
        return None
    if image.format != "JPEG" or not tables:
        return None
    text = "gray"
    if len(layers) > 1:
        across, down = (layers[0][i] // max(layers[1][i], 1) for i in (1, 2))
        names = {
            (1, 1): "4:4:4",
            (2, 1): "4:2:2",
            (2, 2): "4:2:0",
            (1, 2): "4:4:0",
            (4, 1): "4:1:1",
        }
        text = names.get((across, down), f"{across}x{down}")
    return JpegTables(tuple(tuple(tables[number]) for number in sorted(tables)), text)
