"""One kernel out of several: a photo's kernel is estimated with several seeds, which differ by chance alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from realsr.core.errors import UserError
from realsr.imaging.kernel_shapes import Kernel, compose_x4, kernel_distance, kernel_psnr, normalise, postprocess
from realsr.kernels.health import KernelHealth, measure_health
from realsr.kernels.kernelgan import Estimates

LEAST_SUM = 0.1  # of a raw kernel: training that runs away ends near 0


@dataclass(frozen=True)
class Outcome:
    """What is made of a photo's estimates: the kernels of both scales, health, and which one it is if it is one.

    damage: what is wrong with the photo's file, None for nothing.
    """

    kernel: Kernel
    kernel_x4: Kernel
    health: KernelHealth
    chosen: int | None
    damage: str | None = None


def choose_kernel(estimates: Estimates, how: str) -> Outcome | None:
    """Process a photo's raw kernels and make one of them; None where not one has a positive sum.

    Those that ran away are left out if there are others.
    """
    processed: dict[int, Kernel] = {}
    for index, raw in enumerate(estimates.kernels):
        try:
            processed[index] = postprocess(raw)
        except ValueError:  # training ran away: nothing is left, or it is not finite
            continue
    if not processed:
        return None
    sound = {index: kernel for index, kernel in processed.items() if estimates.kernels[index].sum() > LEAST_SUM}
    processed = sound or processed
    kernel, chosen = combine(list(processed.values()), how)
    indices = list(processed) if chosen is None else [list(processed)[chosen]]
    losses = {name: float(values[indices].mean()) for name, values in estimates.losses.items()}
    health = measure_health(
        estimates.kernels[indices].mean(axis=0), kernel, losses, agreement(list(processed.values()))
    )
    return Outcome(kernel, compose_x4(kernel), health, None if chosen is None else indices[0])


def combine(kernels: Sequence[Kernel], how: str) -> tuple[Kernel, int | None]:
    """Make one kernel of several that are processed (odd sizes, aligned); also return which it is, if it is one.

    how: `medoid`, the kernel with the smallest sum of distances to the others, or `mean`. Raises UserError for
    another word.
    """
    if how == "medoid":
        return find_medoid(kernels)
    if how == "mean":
        return average(kernels), None
    raise UserError(f"kernels.combine={how}: expected medoid or mean")


def find_medoid(kernels: Sequence[Kernel]) -> tuple[Kernel, int]:
    """Return the kernel with the smallest sum of distances to the others, and its index; the first where equal."""
    sums = [sum(kernel_distance(kernel, other) for other in kernels) for kernel in kernels]
    chosen = int(np.argmin(sums))
    return kernels[chosen], chosen


def average(kernels: Sequence[Kernel]) -> Kernel:
    """Return the mean of kernels of odd sizes with their indices k//2 on each other: aligned as they are."""
    side = max(max(kernel.shape) for kernel in kernels)
    canvas = np.zeros((side, side))
    for kernel in kernels:
        top, left = (side // 2 - size // 2 for size in kernel.shape)
        canvas[top : top + kernel.shape[0], left : left + kernel.shape[1]] += normalise(kernel)
    return normalise(canvas)


def agreement(kernels: Sequence[Kernel]) -> float | None:
    """Return the mean kernel PSNR over ordered pairs of kernels, in dB, 100 at most; None for fewer than two."""
    pairs = list(combinations(kernels, 2))
    if not pairs:
        return None
    return float(np.mean([min(100.0, (kernel_psnr(a, b) + kernel_psnr(b, a)) / 2) for a, b in pairs]))
