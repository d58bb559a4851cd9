"""One kernel out of several: a photo's kernel is estimated with several seeds, which differ by chance alone."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from realsr.imaging.kernel_shapes import Kernel, compose_x4, kernel_distance, kernel_psnr, normalise, postprocess
from realsr.kernels.estimator import KernelEstimate, NoKernelError
from realsr.kernels.health import measure_health

LEAST_SUM = 0.1  # of a raw kernel: training that runs away ends near 0


def choose_kernel(raws: np.ndarray, losses: Mapping[str, np.ndarray], how: str) -> KernelEstimate:
    """Process a photo's raw kernels (seeds, 13, 13) and make one of them; losses (seeds,) by name.

    how: `medoid`, the kernel with the smallest sum of distances to the others, or `mean`. Those that ran away are left
    out if there are others. Raises NoKernelError where not one has a positive sum.
    """
    processed: dict[int, Kernel] = {}
    for index, raw in enumerate(raws):
        try:
            processed[index] = postprocess(raw)
        except ValueError:  # training ran away: nothing is left, or it is not finite
            continue
    if not processed:
        raise NoKernelError("no kernel came out: its sum is not a positive number")
    processed = {index: kernel for index, kernel in processed.items() if raws[index].sum() > LEAST_SUM} or processed
    names, kernels = list(processed), list(processed.values())
    chosen = None
    if how == "medoid":
        kernel, position = find_medoid(kernels)
        chosen = names[position]
    else:
        kernel = average(kernels)
    indices = names if chosen is None else [chosen]
    numbers = measure_health(raws[indices].mean(axis=0), kernel)
    numbers |= {name: float(values[indices].mean()) for name, values in losses.items()}
    if len(kernels) > 1:
        numbers["agreement"] = agreement(kernels)
    return KernelEstimate({2: [kernel], 4: [compose_x4(kernel)]}, numbers, {"chosen": chosen})


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


def agreement(kernels: Sequence[Kernel]) -> float:
    """Return the mean kernel PSNR over ordered pairs of two kernels or more, in dB, 100 at most."""
    pairs = combinations(kernels, 2)
    return float(np.mean([min(100.0, (kernel_psnr(a, b) + kernel_psnr(b, a)) / 2) for a, b in pairs]))
