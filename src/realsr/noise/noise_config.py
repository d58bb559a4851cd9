"""How noise patches are chosen."""

from dataclasses import dataclass
from typing import Annotated

from realsr.core.ranges import Range


@dataclass
class NoiseConfig:
    """Which tiles are noise patches. Variance and mean are those of the gray tile, in 8-bit units."""

    size: Annotated[int, Range(8)]
    stride: Annotated[int, Range(1)]
    max_variance: Annotated[float, Range(above=0)]
    min_mean: Annotated[float, Range(0, below=255)]
    released_rule: (
        bool  # the published code's: forgets the last exact tile of a row and column, drops nothing
    )
    max_clipped: Annotated[float, Range(0, 1)]  # part of a tile's pixels with a channel at 0 or 255
    max_structure: Annotated[float, Range(0)]  # see measure_structure
    drop_structured: bool
    auto: bool  # choose the thresholds by a survey, max_variance and min_mean or above
    min_patches: Annotated[int, Range(1)]  # patches that the chosen thresholds should yield
