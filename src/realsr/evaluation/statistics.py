"""What a mean over images is worth: bootstrap intervals, and models compared image by image."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from realsr.core.seeding import numpy_generator

RESAMPLES = 9999
Interval = tuple[float, float]
Scores = Mapping[str, float]  # by metric


@dataclass(frozen=True)
class Estimate:
    """A mean over images, and the 95 % interval of it; None for one image, or values that are not all finite."""

    mean: float
    interval: Interval | None


@dataclass(frozen=True)
class Difference(Estimate):
    """The mean over images of what a model has more than another, and in how many of the images it is better."""

    better: int
    images: int


def estimate_mean(values: Sequence[float]) -> Estimate:
    """Return the mean and its 95 % interval by the percentile bootstrap (Efron 1979): 9999 resamples of the images.

    The resamples depend on the number of values alone. With few images the interval is too narrow.
    """
    mean = math.fsum(values) / len(values)
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return Estimate(mean, None)
    # Here and not above: it takes a second, and training needs no interval.
    from scipy.stats import bootstrap

    result = bootstrap(
        (np.asarray(values, np.float64),),
        np.mean,
        n_resamples=RESAMPLES,
        batch=1000,
        confidence_level=0.95,
        method="percentile",
        random_state=numpy_generator(0, "bootstrap"),
    )
    return Estimate(mean, (float(result.confidence_interval.low), float(result.confidence_interval.high)))


def compare(values: Sequence[float], reference: Sequence[float], higher_is_better: bool) -> Difference:
    """Return how a model's values differ from another's on the same images, in the same order.

    Equal values, infinite ones too, differ by 0.
    """
    differences = [0.0 if a == b else a - b for a, b in zip(values, reference, strict=True)]
    estimate = estimate_mean(differences)
    better = sum(difference > 0 if higher_is_better else difference < 0 for difference in differences)
    return Difference(estimate.mean, estimate.interval, better, len(differences))


def mean_scores(by_image: Mapping[str, Scores]) -> dict[str, float]:
    """Return the mean over images of each metric."""
    rows = list(by_image.values())
    return {metric: math.fsum(row[metric] for row in rows) / len(rows) for metric in rows[0]} if rows else {}
