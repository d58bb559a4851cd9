"""The differences of two sets of photos in single numbers, and the keys that change them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from realsr.domains.two_sample import nan_mean

Statistics = Mapping[str, np.ndarray]
"""Means over photos by name, see `measure_regions`, with leading axes for resampled sets."""
Numbers = tuple[np.ndarray, np.ndarray, np.ndarray]
Compare = Callable[[Statistics, Statistics], Numbers]
"""From the statistics of a and b: the numbers of both, and b - a in steps that matter."""

NOISE_CHARACTER = ("shadow_noise", "noise_grain", "noise_colour")
SHADOWS = 3  # bins of brightness below 96
WIDER = (
    "wider kernels: pool=kernels_and_noise kernels=spectral, or pool=gaussian with larger "
    "pool.estimator.eigenvalues"
)
NARROWER = (
    "narrower kernels: a smaller kernels.gates.max_spread_long, pool=gaussian with smaller "
    "pool.estimator.eigenvalues, or pool=bicubic"
)
OWN_NOISE = "noise patches of these photos: pool.noise=true online_degradation=noise"


@dataclass(frozen=True)
class Quantity:
    """A number in which two sets are compared.

    values: of a and b, and their difference in the smallest steps that matter.
    less, more: what to set if b has less or more than a.
    """

    name: str
    label: str
    unit: str
    values: Compare
    less: str
    more: str


@dataclass(frozen=True)
class Finding:
    """A quantity of a and b with 95 % intervals (low, high).

    difference, interval: of b - a, in steps that matter.
    """

    quantity: Quantity
    a: float
    b: float
    a_interval: tuple[float, float]
    b_interval: tuple[float, float]
    difference: float
    interval: tuple[float, float]

    @property
    def is_clear(self) -> bool:
        """Whether the difference is one step or more and its interval is beyond 0."""
        low, high = self.interval
        return abs(self.difference) >= 1 and (low > 0 or high < 0)

    @property
    def advice(self) -> str:
        """What to set to reduce the difference."""
        return self.quantity.more if self.difference > 0 else self.quantity.less


def find_differences(
    a: Statistics,
    b: Statistics,
    resampled_a: Statistics,
    resampled_b: Statistics,
    photos: tuple[int, int],
) -> list[Finding]:
    """Return the quantities that both sets have, the largest clear difference first.

    resampled_a, resampled_b: statistics of bootstrap samples of the photos, on the first axis.
    photos: of a and of b. Intervals of few photos are widened as by Student's distribution, since
    the bootstrap alone makes them too narrow.
    """
    factors = [_widen(count) for count in (*photos, min(photos))]
    findings = []
    for quantity in QUANTITIES:
        values = [float(value) for value in quantity.values(a, b)]
        if not np.isfinite(values).all():
            continue
        samples = quantity.values(resampled_a, resampled_b)
        interval_a, interval_b, interval = map(_interval, samples, values, factors)
        findings.append(
            Finding(quantity, values[0], values[1], interval_a, interval_b, values[2], interval)
        )
    levels_differ = any(f.quantity.name == "noise" and f.is_clear for f in findings)

    def rank(finding: Finding) -> tuple[bool, bool, float]:
        """Order by size; of noise of different levels, the level is the cause."""
        follows = levels_differ and finding.quantity.name in NOISE_CHARACTER
        return not finding.is_clear, follows, -abs(finding.difference)

    return sorted(findings, key=rank)


def _widen(photos: int) -> float:
    """Return the factor from a bootstrap interval to that of Student's distribution; 1 for many."""
    if photos < 2:
        return 1.0
    return float(stats.t.ppf(0.975, photos - 1) / 1.96 * np.sqrt(photos / (photos - 1)))


def _interval(samples: np.ndarray, value: float, factor: float) -> tuple[float, float]:
    if not np.isfinite(samples).any():
        return float("nan"), float("nan")
    low, high = value + factor * (np.nanquantile(samples, (0.025, 0.975)) - value)
    return float(low), float(high)


def _mean(values: np.ndarray, axes: int) -> np.ndarray:
    """Return the mean over the last axes, without nan; nan if there is nothing else."""
    return nan_mean(values.reshape(*values.shape[: values.ndim - axes], -1), -1)


def _common(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both arrays with nan where either is nan."""
    is_valid = np.isfinite(a) & np.isfinite(b)
    return np.where(is_valid, a, np.nan), np.where(is_valid, b, np.nan)


def _mean_difference(
    name: str, axes: int, step: float, part: tuple[slice | int, ...] = ()
) -> Compare:
    """Compare the means of a statistic, or of a part of its last axes, by their difference."""

    def compare(a: Statistics, b: Statistics) -> Numbers:
        first, second = _common(a[name][(..., *part)], b[name][(..., *part)])
        first, second = _mean(first, axes), _mean(second, axes)
        return first, second, (second - first) / step

    return compare


def _ratio(name: str, axes: int, step: float) -> Compare:
    """Compare the geometric means of a positive statistic by their ratio; step: of its logarithm."""

    def compare(a: Statistics, b: Statistics) -> Numbers:
        first, second = _common(a[name], b[name])
        with np.errstate(divide="ignore"):
            first, second = (_mean(np.log(x.clip(min=1e-3)), axes) for x in (first, second))
        return np.exp(first), np.exp(second), (second - first) / step

    return compare


def _compare_shadows(a: Statistics, b: Statistics) -> Numbers:
    """Compare the ratio of the noise level in shadows to that of the other bins."""
    logs = [np.log(x.clip(min=1e-3)) for x in _common(a["noise_level"], b["noise_level"])]
    first, second = (_mean(x[..., :SHADOWS], 2) - _mean(x[..., SHADOWS:], 2) for x in logs)
    return np.exp(first), np.exp(second), (second - first) / 0.25


def _compare_directions(a: Statistics, b: Statistics) -> Numbers:
    """Compare the directions of fine detail: the largest difference, and where it is."""
    first, second = (_mean(x["detail_direction"].swapaxes(-1, -2), 1) for x in (a, b))
    gaps = np.abs(second - first)
    gap = np.where(np.isfinite(gaps).any(-1), np.nan_to_num(gaps, nan=-1).max(-1), np.nan)
    spread = [np.ptp(x, axis=-1) for x in (first, second)]
    return spread[0], spread[1], gap / 2


QUANTITIES = (
    Quantity(
        "noise", "noise level", "levels", _ratio("noise_level", 2, 0.15),
        f"noise: {OWN_NOISE}", "less noise: a lower noise.max_variance",
    ),
    Quantity(
        "shadow_noise", "noise in shadows, relative to that in brighter regions", "", _compare_shadows,
        "noise patches of dark regions: a lower noise.min_mean",
        "no noise patches of dark regions: a higher noise.min_mean",
    ),
    Quantity(
        "noise_grain", "correlation of neighbouring noise pixels", "",
        _mean_difference("noise_autocorrelation", 2, 0.15, (slice(None), slice(None), 0)),
        OWN_NOISE, OWN_NOISE,
    ),
    Quantity(
        "noise_colour", "correlation of noise between channels", "",
        _mean_difference("noise_colour_correlation", 1, 0.2), OWN_NOISE, OWN_NOISE,
    ),
    Quantity(
        "edge_width", "width of the sharpest edges", "pixels", _ratio("edge_width", 2, 0.1),
        WIDER, NARROWER,
    ),
    Quantity(
        "fine_detail", "fine detail, relative to coarse detail", "dB",
        _mean_difference("detail_spectrum", 2, 1.5, (slice(None), slice(5, None))), NARROWER, WIDER,
    ),
    Quantity(
        "direction", "dependence of fine detail on direction", "dB", _compare_directions,
        "kernels of these photos: pool=kernels_and_noise",
        "kernels of these photos: pool=kernels_and_noise",
    ),
    Quantity(
        "overshoot", "overshoot at edges", "of the contrast", _mean_difference("overshoot", 1, 0.03),
        "no key: kernels have no negative values, so that LR cannot be sharpened as in the camera",
        "photos that were not sharpened in data.target, or a larger pairs.clean_up",
    ),
    Quantity(
        "blocking", "steps at the borders of 8x8 blocks", "of a step",
        _mean_difference("blocking", 2, 0.06), "JPEG: online_degradation=noise_jpeg",
        "no JPEG: online_degradation=noise, and a larger pairs.clean_up",
    ),
    Quantity(
        "saturation", "saturated pixels", "of all", _mean_difference("saturation", 1, 0.03),
        "no key: exposure depends on the photos", "no key: exposure depends on the photos",
    ),
    Quantity(
        "black_level", "black level", "levels", _mean_difference("black_level", 1, 12),
        "no key: exposure depends on the photos", "no key: exposure depends on the photos",
    ),
)  # fmt: skip
