"""Configuration of the noise patches."""

from dataclasses import dataclass
from typing import Annotated

from realsr.core.ranges import Range

NOISE_MODEL = "online_degradation=noise_model, which needs no flat tiles, only blocks of 16 pixels"
"""What to set, in messages, for photos without flat tiles."""


@dataclass
class NoiseConfig:
    """Criteria for noise patches. Variance and mean are those of the gray tile, in 8-bit units."""

    size: Annotated[int, Range(8)]
    stride: Annotated[int, Range(1)]
    max_variance: Annotated[float, Range(above=0)]
    min_mean: Annotated[float, Range(0, below=255)]
    # The published code's rule: omits the last exact tile of each row and column, drops no tile.
    released_rule: bool
    max_clipped: Annotated[float, Range(0, 1)]  # fraction of pixels with a channel at 0 or 255
    max_structure: Annotated[float, Range(0)]  # see measure_structure
    drop_structured: bool
    auto: bool  # choose thresholds by a survey, at least max_variance and min_mean
    min_patches: Annotated[int, Range(1)]  # number of patches that these thresholds should yield
