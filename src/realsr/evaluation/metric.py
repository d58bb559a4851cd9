"""What a metric is to the evaluation, whichever library computes it."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class ImageMetric:
    """A number for each image.

    compute: (sr, hr) -> value; both (3, H, W) float32 on the CPU, 0..1, rounded to 8 bit and cropped already; hr is
        None only where `needs_hr` is False. Raises ValueError for images that it cannot compare, e.g. too small ones.
    digits: decimals in tables.
    """

    name: str
    higher_is_better: bool
    needs_hr: bool
    digits: int
    compute: Callable[[Tensor, Tensor | None], float]


@dataclass(frozen=True)
class SetMetric:
    """A number for a whole set of images against the set of HR images, from features of each; lower is better.

    features: image, as `ImageMetric` gets it -> (1, F). distance: (N, F) of SR and (M, F) of HR -> value; raises
        ValueError where there are too few images.
    """

    name: str
    digits: int
    features: Callable[[Tensor], Tensor]
    distance: Callable[[Tensor, Tensor], float]


Metric = ImageMetric | SetMetric
