"""Metrics of a function, for tests of what is done with metrics."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass
class ToyMetric:
    """An image metric; compute: see `ImageMetric`."""

    higher_is_better: bool
    digits: int
    compute: Callable[..., float] = lambda sr, hr: 0.0
    needs_hr: bool = True


@dataclass
class ToySetMetric:
    """A metric of sets."""

    digits: int
    features: Callable[[Tensor], Tensor] = lambda image: image
    distance: Callable[[Tensor, Tensor], float] = lambda sr, hr: 0.0
