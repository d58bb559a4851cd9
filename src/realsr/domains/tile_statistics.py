"""Noise and spectra of a photo's tiles, and the features by which a classifier compares patches."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import fft

from realsr.domains.regions import TILE

LEVEL_BINS = 8  # of brightness, each of 32 levels
LAGS = 4
RINGS = 12
SECTORS = 4  # directions of fluctuation: 0, 45, 90 and 135 degrees from the rows
MAX_CLIPPED = 0.01  # of a tile's pixels
MAX_STRUCTURE = 0.2  # of flat tiles: autocorrelation at 8 pixels
MAX_UNEVENNESS = 2.5  # of flat tiles: largest by smallest variance of their quarters
ENVELOPE = 1.5  # noise of a flat tile, relative to the flattest tiles of its brightness
MAX_CORRELATED = 6.0  # levels; above, what correlates with its neighbours is fine texture
MAX_NEIGHBOURS = 0.3
MAX_RISE = 3.3  # of the noise variance, from one bin of brightness to the next
EMPTY_RISE = 1.5  # more for each bin between them that has no candidates
MIN_FLAT = 4  # tiles
MIN_CORRELATED = 16  # flat tiles, for the correlation of their noise
MIN_DETAIL = 50.0  # power of detail, levels squared, as white noise of 7 levels has
MIN_NOISE = 0.5  # levels; rounding to 8 bits alone is 0.3
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
CHROMA = np.array([[-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]], np.float32)
PLANES = np.concatenate([np.eye(3, dtype=np.float32), LUMA[None], CHROMA])  # R, G, B, Y, Cb, Cr
CONTENT_BAND = (0.045, 0.125)  # cycles per pixel: its power describes the content, not the camera
BANDS = ((0.125, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.5), (0.5, 0.71))
ROUNDING = 0.02  # levels squared, so that the logarithm of an empty band is finite

RING_EDGES = np.linspace(0.0625, 0.5, RINGS + 1)
FREQUENCIES = (RING_EDGES[:-1] + RING_EDGES[1:]) / 2


@dataclass(frozen=True)
class TileStatistics:
    """What a photo's tiles (32x32) tell; nan where the photo has no suitable tile.

    statistics: by name.
    features: (n, F), see `FEATURES`, of tiles that are not clipped.
    content: (n, C) of the same tiles: what describes their content, and not the camera.
    """

    statistics: dict[str, np.ndarray]
    features: np.ndarray
    content: np.ndarray


FEATURES = (
    *(f"luma, {low:g} to {high:g} cycles per pixel" for low, high in BANDS),
    "Cb, coarse",
    "Cb, fine",
    "Cr, coarse",
    "Cr, fine",
    "fine detail, horizontal or vertical",
    "fine detail, diagonals",
    "correlation of R and G",
    "correlation of G and B",
    "tails of the distribution",
    "steps at the borders of blocks",
    "fine power of the flattest tenth",
    "fine power of the most detailed tenth",
)
CONTENT = ("brightness", "contrast of luma", "of Cb", "of Cr", "direction", "diagonal direction")


def measure_tiles(tiles_uint8: np.ndarray) -> TileStatistics:
    """Measure tiles (n, 32, 32, 3).

    Noise is measured in flat tiles: without clipping or structure, and about as flat as the
    flattest ones of their brightness (the lower envelope of Liu et al., CVPR 2006). Spectra of
    detailed tiles are relative to the tile's own power in the band of the content, so that the
    contrast of the content does not matter; the noise of flat tiles is subtracted. Directions are
    relative to those of the content.
    """
    tiles = tiles_uint8.astype(np.float32)
    limits = tiles_uint8 + np.uint8(1) < 2  # 0 or 255
    usable = limits.any(3).mean((1, 2)) <= MAX_CLIPPED
    tiles = tiles[usable]
    means = tiles.mean((1, 2))
    residuals = _remove_shading(tiles)
    powers = _powers(tiles)
    flat = _find_flat(residuals @ LUMA, means @ LUMA)
    statistics = _measure_noise(residuals[flat], means[flat])
    statistics |= _measure_spectra(powers, flat)
    features, content = _describe_patches(tiles, means, powers)
    return TileStatistics(statistics, features, content)


def _remove_shading(tiles: np.ndarray) -> np.ndarray:
    """Subtract from each channel of tiles (n, s, s, 3) its least-squares polynomial of degree 2."""
    powers = np.vander(np.linspace(-1, 1, TILE), 3, increasing=True)
    basis = np.linalg.qr(powers)[0].astype(np.float32)
    products = [np.outer(basis[:, i], basis[:, j]) for i in range(3) for j in range(3 - i)]
    planes = np.stack([product.ravel() for product in products])  # (6, s * s), orthonormal
    flat = tiles.reshape(len(tiles), TILE * TILE, 3)
    weights = np.matmul(planes, flat)
    return (flat - np.matmul(planes.T, weights)).reshape(tiles.shape)


def _powers(tiles: np.ndarray) -> np.ndarray:
    """Return the power (n, 32, 17, 6) of R, G, B, Y, Cb, Cr; that of white noise is its variance."""
    profile = np.hanning(TILE + 2)[1:-1].astype(np.float32)
    taper = np.outer(profile, profile)[..., None]
    taper /= np.sqrt((taper**2).sum())
    means = (tiles * taper).sum((1, 2), keepdims=True) / taper.sum()
    spectra = fft.rfft2((tiles - means) * taper, axes=(1, 2)) @ PLANES.T
    return spectra.real**2 + spectra.imag**2


def _find_flat(luma: np.ndarray, brightness: np.ndarray) -> np.ndarray:
    """Return a mask of the flat tiles among luma without shading (n, s, s)."""
    variance = np.square(luma).mean((1, 2))
    shift = 8
    first, last, full = slice(None, -shift), slice(shift, None), slice(None)
    pairs = [
        ((last, full), (first, full)),
        ((full, last), (full, first)),
        ((last, last), (first, first)),
        ((last, first), (first, last)),
    ]
    structure = np.zeros(len(luma))
    for a, b in pairs:
        products = (luma[:, a[0], a[1]] * luma[:, b[0], b[1]]).mean((1, 2))
        structure = np.maximum(structure, np.abs(products) / variance.clip(min=1e-3))
    half = TILE // 2
    quarters = np.square(luma).reshape(-1, 2, half, 2, half).mean((2, 4)).reshape(-1, 4)
    is_even = quarters.max(1) <= MAX_UNEVENNESS * quarters.min(1)
    neighbours = (luma[:, 1:] * luma[:, :-1]).mean((1, 2)) / variance.clip(min=1e-3)
    is_texture = (variance > MAX_CORRELATED**2) & (neighbours > MAX_NEIGHBOURS)
    plain = (structure <= MAX_STRUCTURE) & is_even & ~is_texture
    plain |= variance < MIN_NOISE**2
    bins = (brightness * LEVEL_BINS / 256).astype(int)
    limits = np.full(LEVEL_BINS, np.inf)
    for index in range(LEVEL_BINS):
        values = np.sort(variance[plain & (bins == index)])
        if len(values) >= MIN_FLAT:
            limits[index] = values[max(MIN_FLAT - 1, int(0.02 * len(values)))]
    limits = ENVELOPE**2 * np.maximum(_limit_rise(limits), MIN_NOISE**2)
    return plain & (variance <= limits[bins])


def _limit_rise(variances: np.ndarray) -> np.ndarray:
    """Return the variances (8,), 0 where they rise by more than MAX_RISE from bin to bin.

    The walk begins at the lowest variance, since texture of a brightness without flat tiles has a
    much higher one.
    """
    start = int(variances.argmin())
    result = np.zeros(len(variances))
    for path in (range(start, len(variances)), range(start, -1, -1)):
        last = max(variances[start], MIN_NOISE**2)
        for index in path:
            if not np.isfinite(variances[index]):
                last *= EMPTY_RISE
            elif variances[index] <= MAX_RISE * last:
                result[index] = variances[index]
                last = max(variances[index], MIN_NOISE**2)
    return result


def _measure_noise(residuals: np.ndarray, means: np.ndarray) -> dict[str, np.ndarray]:
    """Return level by brightness (3, 8), autocorrelation (3, 2, 4) and colour correlation (3,)."""
    levels, shape = np.full((3, LEVEL_BINS), np.nan), (3, 2, LAGS)
    correlation = {
        "noise_autocorrelation": np.full(shape, np.nan),
        "noise_colour_correlation": np.full(3, np.nan),
    }
    if len(residuals) < MIN_FLAT:
        return {"noise_level": levels} | correlation
    # The polynomial takes 6 of the tile's degrees of freedom.
    variances = np.square(residuals).sum((1, 2)) / (TILE**2 - 6)
    bins = (means * LEVEL_BINS / 256).astype(int)
    for channel in range(3):
        for index in range(LEVEL_BINS):
            values = variances[bins[:, channel] == index, channel]
            if len(values) >= MIN_FLAT:
                levels[channel, index] = np.sqrt(np.median(values))
    variance = variances.mean(0)
    is_noisy = np.sqrt(np.median(variances.mean(1))) >= MIN_NOISE
    if is_noisy and len(residuals) >= MIN_CORRELATED:
        for lag in range(1, LAGS + 1):
            down = (residuals[:, lag:] * residuals[:, :-lag]).mean((0, 1, 2))
            right = (residuals[:, :, lag:] * residuals[:, :, :-lag]).mean((0, 1, 2))
            correlation["noise_autocorrelation"][:, 0, lag - 1] = down / variance
            correlation["noise_autocorrelation"][:, 1, lag - 1] = right / variance
        for index, (a, b) in enumerate(((0, 1), (0, 2), (1, 2))):
            product = (residuals[..., a] * residuals[..., b]).mean()
            scale = np.sqrt(variance[a] * variance[b])
            correlation["noise_colour_correlation"][index] = product / scale
    return {"noise_level": levels} | correlation


def _measure_spectra(powers: np.ndarray, flat: np.ndarray) -> dict[str, np.ndarray]:
    """Return spectra by ring (3, 12) and by direction (3, 4), in dB, of detailed and flat tiles."""
    content = _mean_power(powers, _ring(*CONTENT_BAND))
    least = MIN_DETAIL
    if flat.any():
        least = max(least, 20 * float(np.median(content[flat, 3])))
    detailed = content[:, 3] > least
    rings = [_ring(low, high) for low, high in pairwise(RING_EDGES)]
    radial = np.stack([_mean_power(powers, ring)[:, :3] for ring in rings], axis=2)
    fine, coarse = (
        np.stack([_mean_power(powers, sector & ring)[:, :3] for sector in _sectors()], axis=2)
        for ring in (_ring(0.15, 0.45), _ring(*CONTENT_BAND))
    )
    result = {}
    noise = radial[flat].mean(0) if flat.sum() >= MIN_FLAT else 0
    clean = np.maximum(radial - noise, 0.1 * radial)
    for name, mask in (("flat", flat), ("detail", detailed)):
        result[f"{name}_spectrum"] = np.full((3, RINGS), np.nan)
        result[f"{name}_direction"] = np.full((3, SECTORS), np.nan)
        if mask.sum() < MIN_FLAT:
            continue
        by_direction = _decibels(fine[mask])
        if name == "flat":
            level = radial[mask].mean((0, 2), keepdims=True)[0]
            spectrum = _decibels(radial[mask].mean(0)) - _decibels(level)
        else:
            spectrum = (_decibels(clean[mask]) - _decibels(content[mask, :3])[..., None]).mean(0)
            by_direction = by_direction - _decibels(coarse[mask])
        direction = by_direction.mean(0)
        result[f"{name}_spectrum"] = spectrum
        result[f"{name}_direction"] = direction - direction.mean(1, keepdims=True)
    return result


def _describe_patches(
    tiles: np.ndarray, means: np.ndarray, powers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the features (n, F) and the content (n, C) of tiles."""
    content = _decibels(_mean_power(powers, _ring(*CONTENT_BAND))[:, 3:])
    columns = [_decibels(_mean_power(powers, _ring(*band))[:, 3]) for band in BANDS]
    for plane in (4, 5):
        columns += [
            _decibels(_mean_power(powers, _ring(*band))[:, plane])
            for band in ((0.125, 0.3), (0.3, 0.71))
        ]
    columns += _directions(powers, (0.2, 0.5))
    fine = tiles[:, 1:, 1:] - tiles[:, :-1, 1:] - tiles[:, 1:, :-1] + tiles[:, :-1, :-1]
    variance = np.square(fine).mean((1, 2)) + ROUNDING
    for a, b in ((0, 1), (1, 2)):
        product = (fine[..., a] * fine[..., b]).mean((1, 2))
        columns.append(np.arctanh(0.99 * product / np.sqrt(variance[:, a] * variance[:, b])))
    luma = fine @ LUMA
    fourth = (luma**4).mean((1, 2)) + ROUNDING
    columns.append(np.log(fourth / (np.square(luma).mean((1, 2)) + ROUNDING) ** 2))
    columns.append(_block_steps(tiles @ LUMA))
    columns += [_decibels(power) for power in _local_power(luma)]
    description = [(means @ LUMA) / 255, *content.T, *_directions(powers, CONTENT_BAND)]
    return np.stack(columns, 1), np.stack(description, 1)


def _directions(powers: np.ndarray, band: tuple[float, float]) -> list[np.ndarray]:
    """Return the luma power (n,) of horizontal to vertical, and of both diagonals, in dB."""
    power = [_decibels(_mean_power(powers, s & _ring(*band))[:, 3]) for s in _sectors()]
    return [power[0] - power[2], power[1] - power[3]]


def _block_steps(luma: np.ndarray) -> np.ndarray:
    """Return the log ratio of steps at borders of 8x8 blocks to all others: (n,)."""
    sums = np.zeros((2, len(luma)))
    for image in (luma, luma.swapaxes(1, 2)):
        steps = np.minimum(np.abs(np.diff(image, axis=2)), 12).mean(1)
        is_border = np.arange(steps.shape[1]) % 8 == 7
        sums += np.stack([steps[:, is_border].mean(1), steps[:, ~is_border].mean(1)])
    return np.log((sums[0] + 0.1) / (sums[1] + 0.1))


def _local_power(fine: np.ndarray) -> np.ndarray:
    """Return the 10 % and the 90 % quantile of the power in blocks of 6x6 pixels: (2, n).

    Noise is everywhere in a patch, fine detail is not.
    """
    size, blocks = 6, fine.shape[1] // 6
    inner = np.square(fine[:, : size * blocks, : size * blocks])
    means = inner.reshape(len(fine), blocks, size, blocks, size).mean((2, 4))
    return np.quantile(means.reshape(len(fine), blocks**2), (0.1, 0.9), axis=1)


def _decibels(power: np.ndarray) -> np.ndarray:
    return 10 * np.log10(power + ROUNDING)


def _frequency_grid() -> tuple[np.ndarray, np.ndarray]:
    rows = np.fft.fftfreq(TILE)[:, None]
    columns = np.fft.rfftfreq(TILE)[None]
    return np.broadcast_arrays(rows, columns)  # type: ignore[return-value]


def _ring(low: float, high: float) -> np.ndarray:
    """Return a mask (32, 17) of the frequencies between two radii."""
    radius = np.hypot(*_frequency_grid())
    return (radius >= low) & (radius < high)


def _sectors() -> list[np.ndarray]:
    """Return masks (32, 17) of four directions: horizontal, falling, vertical, rising."""
    rows, columns = _frequency_grid()
    sector = np.rint(np.arctan2(rows, columns) / (np.pi / 4)).astype(int) % SECTORS
    return [sector == index for index in range(SECTORS)]


def _mean_power(powers: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the mean power (n, 6) at the frequencies of a mask."""
    return powers[:, mask].mean(1)
