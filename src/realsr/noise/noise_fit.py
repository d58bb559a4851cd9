"""Noise level by brightness, and correlation of noise, fitted to small blocks of all photos.

A block of noise alone has the variance of the noise, and content only adds to it. Therefore the
variance of the noise is the lowest mode of the blocks' variances at each brightness. The mode is
that of a logarithm, in which the variances of blocks of noise alone are nearly normal.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from realsr.noise.tiles import CONSTANT, mask_clipped

BLOCK = 16  # pixels; photos full of detail have flat blocks of this size
BLOCKS = np.dtype(
    [("top", np.int32), ("left", np.int32), ("mean", np.float32, 3), ("variance", np.float32, 3)]
)
MAX_CLIPPED = 0.01  # fraction of a block's pixels with a channel at 0 or 255
NODES = 18  # of the level function, evenly spaced from 0 to 255
MIN_BLOCKS = 50  # of noise alone, in all photos
LAGS = 6  # pixels; the largest shift in rows and columns of the correlation
SIDE = 2 * LAGS + 1
_SHIFTS = np.arange(-LAGS, LAGS + 1)
_BIN, _PER_BIN = 16, 400  # levels of brightness in a bin, blocks of a photo in each bin
_SEED_SHARE = 0.03  # of the blocks of a bin, those of lowest variance, from which the search starts
# A photo's gain starts at 0, unless this share of its blocks, those of lowest variance, differs by
# more than _START_GAIN, in logarithms of the variance.
_QUIET_SHARE, _START_GAIN = 0.05, 0.4
# Steps of the search, at first without gains, at last with a limit on each channel.
_STEPS, _STEPS_WITHOUT_GAINS, _STEPS_OF_MEANS = 50, 5, 40
# Weights, in blocks, of the curvature and slope of the level function and of the first gain.
_CURVATURE, _SLOPE, _FIRST_GAIN = 30.0, 0.3, 20.0
# A block is noise alone between these standard deviations from the mode, on average over its
# channels, and at the end below a limit in each channel.
_LOW, _HIGH, _HIGH_CHANNEL = -3.0, 1.5, 2.0
_MEAN = -0.1342  # of the standard normal distribution between _LOW and _HIGH


@dataclass(frozen=True)
class LevelFit:
    """Noise level by brightness.

    deviations: (3, NODES), standard deviation of each channel at levels evenly spaced from 0 to
        255, at a gain of 1, 8-bit units.
    gains: (photos,), factor on the deviations in each photo.
    flat: (n,) bool: which blocks are noise alone.
    """

    deviations: np.ndarray
    gains: np.ndarray
    flat: np.ndarray

    def evaluate(self, means: np.ndarray) -> np.ndarray:
        """Return the standard deviations (n, 3) at the channels' levels (n, 3), at a gain of 1."""
        nodes = np.linspace(0, 255, NODES)
        curves = zip(means.T, self.deviations, strict=True)
        return np.stack([np.interp(mean, nodes, curve) for mean, curve in curves], axis=1)


def measure_blocks(image_uint8: np.ndarray) -> np.ndarray:
    """Return the blocks of a photo (H, W, 3) that are neither constant nor clipped: (n,) of BLOCKS.

    `mean` and `variance` are those of the channels, in 8-bit units. The variance is that of the
    residual of a least-squares plane; it is unbiased for white noise. In each bin of brightness at
    most 400 blocks are returned, evenly spaced.
    """
    count = image_uint8.shape[1] // BLOCK
    axis = np.arange(BLOCK, dtype=np.float32) - (BLOCK - 1) / 2
    moments = np.stack([np.ones(BLOCK, np.float32), axis])  # of order 0 and 1
    tables = [np.empty(0, BLOCKS)]
    for top in range(0, image_uint8.shape[0] - BLOCK + 1, BLOCK):
        rows = image_uint8[top : top + BLOCK, : count * BLOCK]
        deviations = rows.reshape(BLOCK, -1).astype(np.float32) - 128
        # Sums over the rows of each block, then over its columns.
        down = (moments @ deviations).reshape(2, count, BLOCK, 3).astype(np.float64)
        total, vertical = down.sum(axis=2)
        horizontal = np.einsum("nxc,x->nc", down[0], axis)
        squares = np.square(deviations).sum(axis=0).reshape(count, BLOCK, 3).sum(axis=1)
        slopes = (vertical**2 + horizontal**2) / (BLOCK * np.square(axis).sum())
        clipped = mask_clipped(rows).reshape(BLOCK, count, BLOCK).mean(axis=(0, 2))
        table = np.zeros(count, BLOCKS)
        table["top"], table["left"] = top, BLOCK * np.arange(count)
        table["mean"] = total / BLOCK**2 + 128
        table["variance"] = (squares - total**2 / BLOCK**2 - slopes) / (BLOCK**2 - 3)
        tables.append(table[(clipped <= MAX_CLIPPED) & (table["variance"].min(axis=1) > CONSTANT)])
    blocks = np.concatenate(tables)
    groups = [thin_out(group, _PER_BIN) for group in _group_by_brightness(blocks)]
    return blocks[np.sort(np.concatenate([np.arange(0), *groups]))]


def _group_by_brightness(blocks: np.ndarray) -> list[np.ndarray]:
    """Return the indices of the blocks in each bin that has any."""
    numbers = (blocks["mean"].mean(axis=1) / _BIN).astype(int)
    return [np.flatnonzero(numbers == number) for number in np.unique(numbers)]


def thin_out(values: np.ndarray, count: int) -> np.ndarray:
    """Return at most `count` of the values (n,), evenly spaced."""
    return values[np.linspace(0, len(values) - 1, min(len(values), count)).astype(int)]


def fit_levels(blocks: np.ndarray, photos: np.ndarray, count: int) -> LevelFit | None:
    """Fit the noise level to blocks (n,) of BLOCKS; None if too few of them are noise alone.

    The logarithm of a block's variance is modelled as f_c(mean of channel c) + g(photo), with f
    piecewise linear and smooth, and g shrunk towards 0.

    photos: (n,), index of each block's photo, below `count`.
    """
    if len(blocks) < MIN_BLOCKS:
        return None
    values = np.log(blocks["variance"].astype(np.float64))
    bases = [_interpolation(blocks["mean"][:, channel]) for channel in range(3)]
    totals = values.mean(axis=1)
    flat = _find_quietest(blocks, totals)
    curves = _fit_curves(bases, values, flat)
    gains = start = _start_gains(
        _subtract_curves(values, bases, curves).mean(axis=1), photos, count
    )
    flat = _find_quietest(blocks, totals - gains[photos])
    spread, spreads = 0.3, np.full(3, np.inf)
    for step in range(_STEPS):
        curves = _fit_curves(bases, values - gains[photos, None], flat)
        residuals = _subtract_curves(values, bases, curves)
        if _STEPS_WITHOUT_GAINS <= step < _STEPS_OF_MEANS:
            sums = np.bincount(photos[flat], residuals[flat].mean(axis=1), count)
            numbers = np.bincount(photos[flat], minlength=count)
            gains = (sums + _FIRST_GAIN * start) / (numbers + _FIRST_GAIN)
        # The curves are those of the mean of flat blocks, which is below the mode.
        errors = residuals - gains[photos, None] + _MEAN * spread
        means = errors.mean(axis=1)
        if step < _STEPS_OF_MEANS:
            spread = float(np.clip(_deviation_below(means[flat, None])[0], 0.04, 0.4))
        if step == _STEPS_OF_MEANS - 1:
            spreads = _deviation_below(errors[flat])
        flat = (means > _LOW * spread) & (means < _HIGH * spread)
        flat &= (errors < _HIGH_CHANNEL * spreads).all(axis=1)
        if flat.sum() < MIN_BLOCKS:
            return None
    # From the mean of the flat blocks' logarithms to their mode, then to the logarithm of the mean.
    curves = curves - _MEAN * spread + spreads[:, None] ** 2 / 2
    typical = np.median(gains[np.unique(photos[flat])])
    curves, gains = curves + typical, gains - typical
    return LevelFit(np.exp(curves / 2), np.exp(gains / 2), flat)


def _find_quietest(blocks: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Return a mask of the blocks with the lowest totals (n,) in each bin of brightness."""
    mask = np.zeros(len(blocks), bool)
    for group in _group_by_brightness(blocks):
        mask[group[totals[group] <= np.quantile(totals[group], _SEED_SHARE)]] = True
    return mask


def _start_gains(residuals: np.ndarray, photos: np.ndarray, count: int) -> np.ndarray:
    """Return the gain from which the search starts in each photo, in logarithms of the variance.

    It is 0, or, in a photo whose quietest blocks have residuals (n,) far from 0, these residuals.
    """
    gains = np.zeros(count)
    for photo in np.unique(photos):
        photo_residuals = residuals[photos == photo]
        if len(photo_residuals) >= MIN_BLOCKS:
            gain = np.quantile(photo_residuals, _QUIET_SHARE)
            gains[photo] = gain if abs(gain) > _START_GAIN else 0
    return gains


def _subtract_curves(values: np.ndarray, bases: list[np.ndarray], curves: np.ndarray) -> np.ndarray:
    """Return values (n, 3) minus the curves of the channels."""
    pairs = zip(bases, curves, strict=True)
    return values - np.stack([basis @ curve for basis, curve in pairs], axis=1)


def _deviation_below(errors: np.ndarray) -> np.ndarray:
    """Return the standard deviations (C,) of errors (n, C) from 0, of the negative errors alone."""
    below = np.minimum(errors, 0)
    return np.sqrt(np.square(below).sum(axis=0) / np.maximum((below < 0).sum(axis=0), 1))


def _interpolation(means: np.ndarray) -> np.ndarray:
    """Return the weights (n, NODES) of the nodes in linear interpolation at levels of 255."""
    positions = means * ((NODES - 1) / 255)
    return np.maximum(0, 1 - np.abs(positions[:, None] - np.arange(NODES)))


def _fit_curves(bases: list[np.ndarray], values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the values (3, NODES) of smooth functions that fit `values` (n, 3) in least squares."""
    second, first = np.diff(np.eye(NODES), 2, axis=0), np.diff(np.eye(NODES), axis=0)
    smooth = _CURVATURE * second.T @ second + _SLOPE * first.T @ first
    curves = []
    for basis, value in zip(bases, values.T, strict=True):
        part = basis[mask]
        curves.append(np.linalg.solve(part.T @ part + smooth, part.T @ value[mask]))
    return np.stack(curves)


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
