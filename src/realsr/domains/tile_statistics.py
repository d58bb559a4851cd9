"""Noise and spectra of a photo's tiles, and the features by which a classifier compares patches."""

from itertools import combinations, pairwise

import numpy as np
from scipy import fft

from realsr.noise.tiles import mask_clipped, polynomials, shift_pairs

TILE = 32  # pixels; a region of a photo holds four tiles
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
CHROMA_BANDS = ((0.125, 0.3), (0.3, 0.71))
ROUNDING = 0.02  # levels squared, so that the logarithm of an empty band is finite

RING_EDGES = np.linspace(0.0625, 0.5, RINGS + 1)
FREQUENCIES = (RING_EDGES[:-1] + RING_EDGES[1:]) / 2
_ROWS, _COLUMNS = np.meshgrid(np.fft.fftfreq(TILE), np.fft.rfftfreq(TILE), indexing="ij")
_RADIUS = np.hypot(_ROWS, _COLUMNS)
_SECTOR = np.rint(np.arctan2(_ROWS, _COLUMNS) / (np.pi / 4)).astype(int) % SECTORS


def measure_tiles(
    regions_uint8: np.ndarray,
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Measure the tiles of regions (n, 64, 64, 3): return statistics, features and content.

    The statistics are by name, see `measure_regions`; nan where no tile is suitable. The features
    (m, F) are those of the tiles without clipping; the content (m, C) of the same tiles describes
    their content and not the camera.

    Noise is measured in flat tiles: without clipping or structure, and about as flat as the
    flattest tiles of their brightness (the lower envelope of Liu et al., CVPR 2006). Spectra of
    detailed tiles are relative to the tile's own power in the band of the content, so that the
    contrast of the content does not matter; the noise of flat tiles is subtracted. Directions are
    relative to those of the content.
    """
    side = regions_uint8.shape[1] // TILE
    tiles_uint8 = regions_uint8.reshape(-1, side, TILE, side, TILE, 3).swapaxes(2, 3)
    tiles_uint8 = tiles_uint8.reshape(-1, TILE, TILE, 3)
    usable = mask_clipped(tiles_uint8).mean((1, 2)) <= MAX_CLIPPED
    tiles = tiles_uint8[usable].astype(np.float32)
    means = tiles.mean((1, 2))
    residuals = _remove_shading(tiles)
    powers = _powers(tiles)
    flat = _find_flat(residuals @ LUMA, means @ LUMA)
    statistics = _measure_noise(residuals[flat], means[flat]) | _measure_spectra(powers, flat)
    return statistics, *_describe_patches(tiles, means, powers)


def _remove_shading(tiles: np.ndarray) -> np.ndarray:
    """Subtract from each channel of tiles (n, s, s, 3) its least-squares polynomial of degree 2."""
    basis = polynomials(TILE)
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
    power = variance.clip(min=1e-3)
    structure = np.zeros(len(luma))
    for a, b in shift_pairs(8):
        products = (luma[:, *a] * luma[:, *b]).mean((1, 2))
        structure = np.maximum(structure, np.abs(products) / power)
    half = TILE // 2
    quarters = np.square(luma).reshape(-1, 2, half, 2, half).mean((2, 4)).reshape(-1, 4)
    is_even = quarters.max(1) <= MAX_UNEVENNESS * quarters.min(1)
    neighbours = (luma[:, 1:] * luma[:, :-1]).mean((1, 2)) / power
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
    levels, colour = np.full((3, LEVEL_BINS), np.nan), np.full(3, np.nan)
    autocorrelation = np.full((3, 2, LAGS), np.nan)
    statistics = {
        "noise_level": levels,
        "noise_autocorrelation": autocorrelation,
        "noise_colour_correlation": colour,
    }
    if len(residuals) < MIN_FLAT:
        return statistics
    # The polynomial takes 6 of the tile's degrees of freedom.
    variances = np.square(residuals).sum((1, 2)) / (TILE**2 - 6)
    bins = (means * LEVEL_BINS / 256).astype(int)
    for channel, index in np.ndindex(levels.shape):
        values = variances[bins[:, channel] == index, channel]
        if len(values) >= MIN_FLAT:
            levels[channel, index] = np.sqrt(np.median(values))
    variance = variances.mean(0)
    is_noisy = np.sqrt(np.median(variances.mean(1))) >= MIN_NOISE
    if not is_noisy or len(residuals) < MIN_CORRELATED:
        return statistics
    for lag in range(1, LAGS + 1):
        down = (residuals[:, lag:] * residuals[:, :-lag]).mean((0, 1, 2))
        right = (residuals[:, :, lag:] * residuals[:, :, :-lag]).mean((0, 1, 2))
        autocorrelation[:, :, lag - 1] = np.stack([down, right], axis=1) / variance[:, None]
    for index, (a, b) in enumerate(combinations(range(3), 2)):
        product = (residuals[..., a] * residuals[..., b]).mean()
        colour[index] = product / np.sqrt(variance[a] * variance[b])
    return statistics


def _measure_spectra(powers: np.ndarray, flat: np.ndarray) -> dict[str, np.ndarray]:
    """Return spectra by ring (3, 12) and by direction (3, 4), in dB, of flat and detailed tiles."""
    statistics = {
        f"{kind}_{name}": np.full((3, count), np.nan)
        for kind in ("flat", "detail")
        for name, count in (("spectrum", RINGS), ("direction", SECTORS))
    }
    content = _band_power(powers, CONTENT_BAND)
    radial = np.stack([_band_power(powers, ring)[:, :3] for ring in pairwise(RING_EDGES)], axis=2)
    fine, coarse = (
        _decibels(_power_by_direction(powers, band)[:, :3]) for band in ((0.15, 0.45), CONTENT_BAND)
    )
    limit, noise = MIN_DETAIL, np.zeros((3, RINGS), np.float32)
    if flat.any():
        limit = max(limit, 20 * float(np.median(content[flat, 3])))
    if flat.sum() >= MIN_FLAT:
        noise = radial[flat].mean(0)
        level = _decibels(radial[flat].mean((0, 2)))
        statistics["flat_spectrum"] = _decibels(noise) - level[:, None]
        statistics["flat_direction"] = _centre(fine[flat])
    detailed = content[:, 3] > limit
    if detailed.sum() >= MIN_FLAT:
        clean = _decibels(np.maximum(radial - noise, 0.1 * radial)[detailed])
        relative = clean - _decibels(content[detailed, :3])[..., None]
        statistics["detail_spectrum"] = relative.mean(0)
        statistics["detail_direction"] = _centre(fine[detailed] - coarse[detailed])
    return statistics


def _centre(by_direction: np.ndarray) -> np.ndarray:
    """Return the mean (3, 4) over tiles (n, 3, 4), minus its own mean over directions."""
    direction = by_direction.mean(0)
    return direction - direction.mean(1, keepdims=True)


def _describe_patches(
    tiles: np.ndarray, means: np.ndarray, powers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the features (n, F) and the content (n, C) of tiles.

    Features: power of luma in each of BANDS, coarse and fine power of Cb and of Cr, fine detail
    horizontal to vertical and on the diagonals, correlations of R and G and of G and B, tails of
    the distribution, steps at the borders of blocks, fine power of the flattest and of the most
    detailed tenth. Content: brightness, contrast of Y, Cb and Cr, both directions.
    """
    content = _decibels(_band_power(powers, CONTENT_BAND)[:, 3:])
    columns = [_decibels(_band_power(powers, band)[:, 3]) for band in BANDS]
    chroma = [_decibels(_band_power(powers, band)) for band in CHROMA_BANDS]
    columns += [power[:, plane] for plane in (4, 5) for power in chroma]
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
    power = _decibels(_power_by_direction(powers, band)[:, 3])
    return [power[:, 0] - power[:, 2], power[:, 1] - power[:, 3]]


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


def _band_power(
    powers: np.ndarray, band: tuple[float, float], sector: int | None = None
) -> np.ndarray:
    """Return the mean power (n, 6) in a band of frequencies, or in a sector of it."""
    mask = (band[0] <= _RADIUS) & (band[1] > _RADIUS)
    if sector is not None:
        mask &= sector == _SECTOR
    return powers[:, mask].mean(1)


def _power_by_direction(powers: np.ndarray, band: tuple[float, float]) -> np.ndarray:
    """Return the mean power (n, 6, 4) in a band: horizontal, falling, vertical, rising."""
    return np.stack([_band_power(powers, band, sector) for sector in range(SECTORS)], axis=2)
