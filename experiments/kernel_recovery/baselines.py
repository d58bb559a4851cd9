"""References for estimates: bicubic, and Gaussians fitted to the true kernel."""

import numpy as np
import torch
from scipy import optimize

from realsr.imaging import resize
from realsr.imaging.kernel_shapes import Kernel, kernel_psnr, normalise
from realsr.kernels.gaussian import gaussian_kernel

SIZE = 31


def bicubic(scale: int) -> Kernel:
    """Return bicubic /scale as a kernel (4 scale, 4 scale)."""
    length = 16 * scale
    rows = resize(torch.eye(length, dtype=torch.float64), size=(16, length))
    taps = rows[8][rows[8] != 0].numpy()
    return normalise(np.outer(taps, taps))


def best_isotropic(true: Kernel) -> Kernel:
    """Return the round Gaussian (31, 31) whose width gives the best kernel PSNR."""

    def loss(log_variance):
        return -kernel_psnr(true, _gaussian(np.exp(log_variance) * np.eye(2)))

    return _gaussian(
        np.exp(optimize.minimize_scalar(loss, bounds=(-2, 5), method="bounded").x) * np.eye(2)
    )


def best_gaussian(true: Kernel) -> Kernel:
    """Return the Gaussian (31, 31) of the best kernel PSNR, the bound of Gaussian estimates."""
    start = np.linalg.cholesky(covariance(true))[np.tril_indices(2)]
    loss = lambda entries: -kernel_psnr(true, _gaussian(_square(entries)))  # noqa: E731
    return _gaussian(_square(optimize.minimize(loss, start, method="Nelder-Mead").x))


def _gaussian(covariance: np.ndarray) -> Kernel:
    return gaussian_kernel(covariance, SIZE, SIZE // 2)


def _square(entries: np.ndarray) -> np.ndarray:
    factor = np.array([[entries[0], 0], [entries[1], entries[2]]])
    return factor @ factor.T


def covariance(kernel: Kernel) -> np.ndarray:
    """Return the covariance (2, 2) of a kernel as a density, in pixels squared."""
    positions = np.moveaxis(np.mgrid[: kernel.shape[0], : kernel.shape[1]], 0, -1).reshape(-1, 2)
    weights = normalise(kernel).ravel()
    offsets = positions - weights @ positions
    return offsets.T @ (
        weights[:, None] * offsets
    )  # np.cov refuses the small negative values of a shifted kernel
