"""Whether an estimated kernel looks sound: numbers about it, and gates for them. The truth is never asked for."""

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from scipy import ndimage

from realsr.core.errors import UserError
from realsr.imaging.kernel_shapes import Kernel, aligned_centre, filter_small, moments

NUMBERS = ("sum", "negative", "centre_offset", "border", "spread_long", "spread_short", "entropy")


def measure_health(raw: Kernel, final: Kernel) -> dict[str, float]:
    """Measure a kernel, `raw` as the estimator leaves it, `final` as it is saved. ValueError: raw has no positive sum.

    sum: of raw, which is not normalised; near 1, and near 0 where training found nothing.
    negative: share of |raw| that is negative, 0..1.
    centre_offset: pixels from raw's centre of mass (small values removed) to where an aligned kernel has it.
    border: share of raw (small values removed) in its outermost ring, 0..1: much where 13x13 is too small for it.
    spread_long, spread_short: standard deviations of final along its axes, in pixels.
    entropy: of final, in bits; 0 for a single pixel, 7.4 for a flat 13x13.
    """
    magnitude = np.abs(raw)
    kept = filter_small(raw)
    offset = np.array(ndimage.center_of_mass(kept)) - [aligned_centre(size, scale=2) for size in raw.shape]
    long, short = spreads(final)
    return {
        "sum": float(raw.sum()),
        "negative": float(magnitude[raw < 0].sum() / magnitude.sum()),
        "centre_offset": float(np.hypot(*offset)),
        "border": float(1 - kept[1:-1, 1:-1].sum()),
        "spread_long": long,
        "spread_short": short,
        "entropy": entropy(final),
    }


def spreads(kernel: Kernel) -> tuple[float, float]:
    """Return the standard deviations of a kernel's mass along its long and its short axis, in pixels."""
    short, long = np.linalg.eigvalsh(moments(np.clip(kernel, 0, None))[1])
    return math.sqrt(max(long, 0.0)), math.sqrt(max(short, 0.0))


def entropy(kernel: Kernel) -> float:
    """Return -sum p log2 p of a kernel's positive values, normalised: in bits."""
    mass = kernel[kernel > 0] / kernel[kernel > 0].sum()
    return float(-(mass * np.log2(mass)).sum())


Gates = Mapping[str, float | None]
"""Limits by `min_<number>` and `max_<number>`, for any number that an estimator reports; None: no limit."""


def read_gates(values: Any, key: str, numbers: Collection[str]) -> dict[str, float | None]:
    """Return gates from YAML values, None for none at all. Raises UserError for what limits no reported number."""
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise UserError(f"{key}={values}: expected limits in braces, e.g. {key}.min_sum=0.1, or null for none")
    for gate, limit in values.items():
        side, _, name = str(gate).partition("_")
        if side not in ("min", "max") or name not in numbers:
            raise UserError(
                f"{key}.{gate}: expected min_ or max_ of a number that is reported: {', '.join(numbers) or 'none'}"
            )
        if limit is not None and (
            isinstance(limit, bool) or not isinstance(limit, int | float) or not math.isfinite(limit)
        ):
            raise UserError(f"{key}.{gate}={limit}: expected a finite number, or null for no limit")
    return dict(values)


def check_health(numbers: Mapping[str, float | None], gates: Gates) -> list[str]:
    """Return why a kernel's numbers fail the gates, one reason a gate; empty for a sound kernel.

    A number that was not reported, such as the agreement of a single seed, passes.
    """
    reasons = []
    for gate, limit in gates.items():
        side, _, name = gate.partition("_")
        value = numbers.get(name)
        if limit is None or value is None:
            continue
        if not (value >= limit if side == "min" else value <= limit):  # so that nan fails
            reasons.append(f"{name} {value:.3g} is {'below' if side == 'min' else 'above'} {gate} {limit:g}")
    return reasons
