"""Gaussian kernels, and those drawn as DIV2KRK's were (Bell-Kligler et al., NeurIPS 2019, section 5)."""

import numpy as np

from realsr.imaging.kernel_shapes import Kernel, aligned_centre, normalise


def gaussian_kernel(covariance: np.ndarray, size: int, centre: tuple[float, float] | float) -> Kernel:
    """Return a Gaussian (size, size) that sums to 1: exp(-d' C^-1 d / 2) at d = (row, column) - centre.

    covariance: (2, 2), positive definite, in pixels squared, rows before columns. centre: that of the Gaussian,
    (row, column) or one number for both; where little is cut off it is the centre of mass.
    """
    offsets = np.moveaxis(np.mgrid[:size, :size], 0, -1) - np.asarray(centre, dtype=np.float64)
    exponents = np.einsum("rci,ij,rcj->rc", offsets, np.linalg.inv(covariance), offsets) / 2
    return normalise(np.exp(exponents.min() - exponents))


def draw_div2krk(
    rng: np.random.Generator,
    isotropic: bool = False,
    size: int = 11,
    eigenvalues: tuple[float, float] = (0.6, 5.0),
    noise: float = 0.25,
) -> Kernel:
    """Draw a kernel (size, size) for scale 2: a Gaussian that is turned and roughened, aligned.

    The eigenvalues of its covariance (pixels squared) are uniform in `eigenvalues`, one for both axes if it is
    isotropic; the angle is uniform in 0..pi; each value is multiplied by 1 + uniform(-noise..noise). The Gaussian
    lies where the centre of mass of the result is aligned, whatever the noise and the border do to it.
    """
    variances = rng.uniform(*eigenvalues, size=1 if isotropic else 2)
    angle = rng.uniform(0, np.pi)
    roughness = 1 + rng.uniform(-noise, noise, size=(size, size))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    covariance = turn @ np.diag(np.broadcast_to(variances, 2)) @ turn.T
    return _centred(covariance, roughness, aligned_centre(size, 2))


def _centred(covariance: np.ndarray, roughness: np.ndarray, target: float) -> Kernel:
    """Find the Gaussian which, times the roughness, has its centre of mass at `target`: Newton's method.

    The centre of mass moves with the Gaussian's centre as S C^-1 does, S being the covariance of what is there.
    """
    size = len(roughness)
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
