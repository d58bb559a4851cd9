"""Whether an estimated kernel looks sound: numbers about it, and gates for them. The truth is never asked for."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
from scipy import ndimage

from realsr.core.ranges import Range
from realsr.imaging.kernel_shapes import Kernel, aligned_centre, filter_small, moments


@dataclass(frozen=True)
class KernelHealth:
    """Numbers about one kernel, `raw` as the training leaves it (13, 13) and `final` as it is saved.

    sum: of raw, which is not normalised; near 1, and near 0 where training found nothing.
    negative: share of |raw| that is negative, 0..1.
    centre_offset: pixels from raw's centre of mass (small values removed) to where an aligned kernel has it.
    border: share of raw (small values removed) in its outermost ring, 0..1: much where 13x13 is too small for it.
    spread_long, spread_short: standard deviations of final along its axes, in pixels.
    entropy: of final, in bits; 0 for a single pixel, 7.4 for a flat 13x13.
    generator, discriminator, bicubic: the final losses, see `kernelgan.Estimates`; None by another method.
    residual, signal: see `spectral.SpectralEstimate`; None by another method.
    agreement: mean kernel PSNR between the kernels of several seeds, in dB; None for one seed.
    """

    sum: float
    negative: float
    centre_offset: float
    border: float
    spread_long: float
    spread_short: float
    entropy: float
    generator: float | None = None
    discriminator: float | None = None
    bicubic: float | None = None
    residual: float | None = None
    signal: float | None = None
    agreement: float | None = None


@dataclass
class HealthGates:
    """Between which limits a kernel is taken to be sound; None: no limit. See docs/kernels.md for the evidence."""

    min_sum: Annotated[float, Range(0)] | None = 0.1
    max_sum: Annotated[float, Range(0)] | None = 1.5
    max_negative: Annotated[float, Range(0)] | None = 0.2
    max_centre_offset: Annotated[float, Range(0)] | None = 1.0
    max_border: Annotated[float, Range(0)] | None = 0.1
    min_spread_short: Annotated[float, Range(0)] | None = 0.3
    max_spread_long: Annotated[float, Range(0)] | None = 3.3
    min_entropy: Annotated[float, Range(0)] | None = 1.5
    max_entropy: Annotated[float, Range(0)] | None = 7.0
    min_bicubic: Annotated[float, Range(0)] | None = 1e-5
    min_discriminator: Annotated[float, Range(0)] | None = 0.103
    min_agreement: Annotated[float, Range()] | None = 24.0
    max_residual: Annotated[float, Range(0)] | None = 0.5
    min_signal: Annotated[float, Range(0)] | None = 0.25


def measure_health(
    raw: Kernel, final: Kernel, losses: Mapping[str, float], agreement: float | None = None
) -> KernelHealth:
    """Measure a raw kernel, the processed one and the losses. Raises ValueError where raw has no positive sum."""
    magnitude = np.abs(raw)
    kept = filter_small(raw)
    offset = np.array(ndimage.center_of_mass(kept)) - [aligned_centre(size, scale=2) for size in raw.shape]
    long, short = spreads(final)
    return KernelHealth(
        sum=float(raw.sum()),
        negative=float(magnitude[raw < 0].sum() / magnitude.sum()),
        centre_offset=float(np.hypot(*offset)),
        border=float(1 - kept[1:-1, 1:-1].sum()),
        spread_long=long,
        spread_short=short,
        entropy=entropy(final),
        **{name: float(value) for name, value in losses.items()},
        agreement=agreement,
    )


def spreads(kernel: Kernel) -> tuple[float, float]:
    """Return the standard deviations of a kernel's mass along its long and its short axis, in pixels."""
    short, long = np.linalg.eigvalsh(moments(np.clip(kernel, 0, None))[1])
    return math.sqrt(max(long, 0.0)), math.sqrt(max(short, 0.0))


def entropy(kernel: Kernel) -> float:
    """Return -sum p log2 p of a kernel's positive values, normalised: in bits."""
    mass = kernel[kernel > 0] / kernel[kernel > 0].sum()
    return float(-(mass * np.log2(mass)).sum())


def check_health(health: KernelHealth, gates: HealthGates) -> list[str]:
    """Return why a kernel fails its gates, one reason a gate; empty for a sound kernel."""
    reasons = []
    numbers = asdict(health)
    for gate, limit in asdict(gates).items():
        side, _, name = gate.partition("_")
        value = numbers[name]
        if limit is None or value is None:
            continue
        if not (value >= limit if side == "min" else value <= limit):  # so that nan fails
            reasons.append(f"{name} {value:.3g} is {'below' if side == 'min' else 'above'} {gate} {limit:g}")
    return reasons
