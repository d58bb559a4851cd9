"""Quantisation tables and chroma subsampling of JPEG files."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from realsr.imaging.pillow_images import open_image

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


_SUBSAMPLINGS = {
    (1, 1): "4:4:4",
    (2, 1): "4:2:2",
    (2, 2): "4:2:0",
    (1, 2): "4:4:0",
    (4, 1): "4:1:1",
}


@dataclass(frozen=True)
class Quantisation:
    """The compression of a JPEG file.

    tables: of the first two components, luma and chroma, or of a single one; 64 values each, row by
        row. subsampling: of the components, e.g. "4:2:0"; "gray" for one component.
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


def read_quantisation(path: Path) -> Quantisation | None:
    """Return the compression of a gray or colour JPEG from its header; None for other files.

    Raises OSError for an unreadable file.
    """
    with path.open("rb") as file:
        if file.read(3) != b"\xff\xd8\xff":
            return None
        file.seek(0)
        with open_image(file) as image:
            tables = getattr(image, "quantization", {})
            # of each component: name, horizontal and vertical samples, number of its table
            layers = getattr(image, "layer", [])
    if len(layers) not in (1, 3) or not tables:
        return None
    subsampling = "gray"
    if len(layers) == 3:
        across, down = (layers[0][i] // max(layers[1][i], 1) for i in (1, 2))
        subsampling = _SUBSAMPLINGS.get((across, down), f"{across}x{down}")
    return Quantisation(tuple(tuple(tables[layer[3]]) for layer in layers[:2]), subsampling)
