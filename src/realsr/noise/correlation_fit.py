"""Correlation of noise between pixels and channels, and the filter that gives it to white noise."""

from functools import cache

import numpy as np

from realsr.noise.level_fit import BLOCK

LAGS = 6  # pixels; the largest shift in rows and columns
SIDE = 2 * LAGS + 1
_SHIFTS = np.arange(-LAGS, LAGS + 1)


def sum_products(image_uint8: np.ndarray, blocks: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    """Return the covariance of the residuals of planes, summed over blocks: (3, 3, SIDE, SIDE).

    Element (i, j, d) is the mean over the pixels p of z_i(p + d) z_j(p), summed over the blocks; z
    is a residual divided by the standard deviation of the noise.

    blocks: (n,) of BLOCKS, at least one. deviations: (n, 3).
    """
    places = zip(blocks["top"].tolist(), blocks["left"].tolist(), strict=True)
    pixels = np.stack([image_uint8[y : y + BLOCK, x : x + BLOCK] for y, x in places])
    flat = pixels.reshape(len(blocks), BLOCK**2, 3).astype(np.float32)
    flat -= _planes() @ (_planes().T @ flat)
    flat /= deviations[:, None]
    spectra = np.fft.fft2(flat.reshape(-1, BLOCK, BLOCK, 3), (2 * BLOCK, 2 * BLOCK), axes=(1, 2))
    power = np.einsum("nyxi,nyxj->ijyx", spectra, spectra.conj(), optimize=True)
    products = np.fft.ifft2(power).real[:, :, _SHIFTS[:, None], _SHIFTS]
    counts = BLOCK - np.abs(_SHIFTS)
    return products / np.outer(counts, counts)


def correct_covariance(covariance: np.ndarray) -> np.ndarray:
    """Return the covariance of noise from that of its residuals of planes, (3, 3, SIDE, SIDE).

    A plane removes part of the noise, and more of it the more the noise is correlated. The
    residuals' covariance is linear in that of the noise, and the linear system is solved.
    """
    flat = covariance.reshape(9, SIDE**2)
    return np.linalg.solve(_residual_matrix(), flat.T).T.reshape(covariance.shape)


@cache
def _residual_matrix() -> np.ndarray:
    """Return the matrix from the covariance of noise to that of its residuals, by shift."""
    basis = _planes().astype(np.float64)
    rows, columns = np.divmod(np.arange(BLOCK**2), BLOCK)
    down, right = (np.subtract.outer(places, places) + LAGS for places in (rows, columns))
    inside = (np.minimum(down, right) >= 0) & (np.maximum(down, right) < SIDE)
    # Of each pair of pixels: the number of its shift, or SIDE^2 beyond the largest shift.
    number = np.where(inside, down * SIDE + right, SIDE**2)
    counts = np.bincount(number.ravel())[: SIDE**2]
    matrix = []
    for shift in range(SIDE**2):
        pairs = (number == shift).astype(np.float64)
        pairs -= basis @ (basis.T @ pairs)
        pairs -= (pairs @ basis) @ basis.T
        matrix.append(np.bincount(number.ravel(), pairs.ravel())[: SIDE**2] / counts)
    return np.stack(matrix, axis=1)


@cache
def _planes() -> np.ndarray:
    """Return an orthonormal basis of the planes on a block, (BLOCK^2, 3)."""
    rows, columns = np.divmod(np.arange(BLOCK**2), BLOCK)
    basis = np.stack([np.ones(BLOCK**2), rows, columns], axis=1)
    return np.linalg.qr(basis)[0].astype(np.float32)


def make_filter(covariance: np.ndarray) -> np.ndarray:
    """Return the filter (3, 3, SIDE, SIDE) for white noise that has nearly this correlation.

    It is the square root of the cross spectrum, a Hermitian matrix at each frequency, cut to SIDE.
    Each output channel has unit variance.
    """
    deviations = np.sqrt(np.diagonal(covariance[..., LAGS, LAGS]))
    grid = np.zeros((3, 3, 4 * LAGS, 4 * LAGS))
    grid[:, :, _SHIFTS[:, None], _SHIFTS] = (
        covariance / np.outer(deviations, deviations)[..., None, None]
    )
    spectrum = np.fft.fft2(grid).transpose(2, 3, 0, 1)
    powers, vectors = np.linalg.eigh((spectrum + spectrum.conj().swapaxes(2, 3)) / 2)
    root = (vectors * np.sqrt(powers.clip(min=0))[..., None, :]) @ vectors.conj().swapaxes(2, 3)
    kernels = np.fft.ifft2(root.transpose(2, 3, 0, 1)).real[:, :, _SHIFTS[:, None], _SHIFTS]
    return kernels / np.sqrt(np.square(kernels).sum(axis=(1, 2, 3), keepdims=True))
