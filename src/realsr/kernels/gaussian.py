"""Random Gaussian kernels, drawn as those of DIV2KRK (Bell-Kligler et al., NeurIPS 2019)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from realsr.core.errors import UserError
from realsr.core.ranges import Range
from realsr.core.seeding import numpy_generator
from realsr.imaging.kernel_shapes import (
    Kernel,
    aligned_centre,
    compose_x4,
    compose_x8,
    normalise,
    rescale,
)
from realsr.kernels.estimator import ALL_SCALES, KernelEstimate, KernelEstimator, Observation

DIV2KRK_SIZE = 11  # of its x2 kernels


@dataclass(frozen=True)
class Gaussian(KernelEstimator):
    """Draw kernels without any photo. Kernel n depends only on the seed and on n.

    count: number of kernels. For the other arguments see `draw_div2krk`; multiplicative_noise is
    its `noise`. The x4 and x8 kernels are composed from the x2 kernel without cropping (11x11 gives
    31x31 and 71x71); those for scales 1 and 3 are the x2 kernel rescaled.
    """

    inputs = "none"
    scales = ALL_SCALES
    unit = "drawn"

    count: Annotated[int, Range(1)]
    isotropic: bool
    eigenvalues: tuple[Annotated[float, Range(above=0)], Annotated[float, Range(above=0)]]
    multiplicative_noise: Annotated[float, Range(0, below=1)]

    def __post_init__(self) -> None:
        if self.eigenvalues[0] > self.eigenvalues[1]:
            low, high = self.eigenvalues
            raise UserError(f"eigenvalues=[{low},{high}]: expected [lowest,highest]")

    def list_items(self, pool: Path) -> dict[str, Path | None]:
        """Return the names of the kernels. None of them has a file."""
        return {f"gaussian_{index:04d}": None for index in range(self.count)}

    def estimate(
        self, observations: Mapping[str, Observation], seed: int
    ) -> Mapping[str, KernelEstimate]:
        """Draw a kernel for each name."""
        estimates = {}
        for name in observations:
            rng = numpy_generator(seed, "kernels", name)
            kernel = draw_div2krk(rng, self.isotropic, self.eigenvalues, self.multiplicative_noise)
            estimates[name] = KernelEstimate({2: [kernel], 4: [compose_x4(kernel, crop=False)]})
        return estimates

    def derive(self, kernel: Kernel, scale: int) -> Kernel:
        """Return the kernel for scale 1, 3 or 8 from that for scale 2."""
        return compose_x8(kernel, crop=False) if scale == 8 else rescale(kernel, scale)


def gaussian_kernel(
    covariance: np.ndarray, size: int, centre: tuple[float, float] | float
) -> Kernel:
    """Return a Gaussian (size, size) with sum 1: exp(-d' C^-1 d / 2), d the offset from the centre.

    covariance: C, (2, 2), in pixels squared, rows before columns.
    centre: (row, column), or one number for both.
    """
    offsets = np.moveaxis(np.mgrid[:size, :size], 0, -1) - np.asarray(centre, dtype=np.float64)
    exponents = np.einsum("rci,ij,rcj->rc", offsets, np.linalg.inv(covariance), offsets) / 2
    return normalise(np.exp(exponents.min() - exponents))


def aligned_gaussian(covariance: np.ndarray, scale: int) -> Kernel:
    """Return the aligned Gaussian (8 s + 1, 8 s + 1) of a covariance (2, 2) for a scale s."""
    size = 8 * scale + 1
    return gaussian_kernel(covariance, size, aligned_centre(size, scale))


def gaussian_covariance(kernel: Kernel) -> np.ndarray:
    """Return the covariance C (2, 2) of a Gaussian (size, size) of `gaussian_kernel`.

    The logarithm of the kernel is quadratic, so its second differences next to the maximum are
    -C^-1. Unlike the moments, they do not depend on the size.
    """
    row, column = np.unravel_index(np.argmax(kernel), kernel.shape)
    a = np.log(kernel[row - 1 : row + 2, column - 1 : column + 2])
    cross = (a[2, 2] - a[2, 0] - a[0, 2] + a[0, 0]) / 4
    differences = [
        [a[0, 1] - 2 * a[1, 1] + a[2, 1], cross],
        [cross, a[1, 0] - 2 * a[1, 1] + a[1, 2]],
    ]
    return np.linalg.inv(-np.array(differences))


def draw_div2krk(
    rng: np.random.Generator,
    isotropic: bool,
    eigenvalues: tuple[float, float],
    noise: float,
    size: int = DIV2KRK_SIZE,
) -> Kernel:
    """Draw a kernel (size, size) for scale 2 as DIV2KRK's: a rotated Gaussian times noise, aligned.

    The eigenvalues of its covariance C (pixels squared) are uniform in `eigenvalues`, equal for
    both axes if `isotropic`; the angle is uniform in 0..pi. Each value is multiplied by
    1 + uniform(-noise..noise). Newton's method shifts the Gaussian until the centre of mass of the
    product is aligned. The derivative of that centre of mass by the Gaussian's centre is S C^-1,
    where S is the covariance of the product.
    """
    variances = rng.uniform(*eigenvalues, size=1 if isotropic else 2)
    angle = rng.uniform(0, np.pi)
    roughness = 1 + rng.uniform(-noise, noise, size=(size, size))
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    covariance = rotation @ np.diag(np.broadcast_to(variances, 2)) @ rotation.T
    target = aligned_centre(size, 2)
    positions = np.moveaxis(np.mgrid[:size, :size], 0, -1).reshape(-1, 2)
    centre = np.full(2, target)
    for _ in range(50):
        kernel = normalise(gaussian_kernel(covariance, size, tuple(centre)) * roughness)
        weights = kernel.ravel()
        mean = weights @ positions
        if np.abs(mean - target).max() < 1e-10:
            break
        spread = (positions - mean).T @ (weights[:, None] * (positions - mean))
        centre += covariance @ np.linalg.solve(spread, target - mean)
    return kernel
