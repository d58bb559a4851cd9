"""A picture of a degradation pool, or of two: kernels and their spectra, noise patches and what they are like."""

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from realsr.imaging import read_uint8, write_uint8
from realsr.imaging.kernel_shapes import Kernel
from realsr.pools.pool_statistics import (
    FREQUENCIES,
    LAGS,
    PoolStatistics,
    bicubic_kernel,
    kernel_spectrum,
)
from realsr.reporting.canvas import (
    FAINT,
    GRID,
    PAIR,
    Block,
    Curve,
    below,
    beside,
    blank,
    colour_values,
    framed,
    heat_matrix,
    label,
    plot,
    window_kernel,
)

WIDTH = 1150
TILE = 100
COLUMNS = 6
NOISE_TILE = 128
NOISE_COLUMNS = 8
TENTHS = (0, 0.1, 0.2, 0.3, 0.4, 0.5)


def write_pool_picture(path: Path, pools: Sequence[PoolStatistics]) -> None:
    """Draw one pool, or two to compare, and write a PNG, atomically. The noise patches are read again."""
    colours = PAIR[: len(pools)]
    names = [pool.folder.as_posix() for pool in pools]
    heads = [label("Degradation pool" if len(pools) == 1 else "Degradation pools compared", WIDTH, 22)]
    heads += [label(name, WIDTH, 14, colour) for name, colour in zip(names, colours, strict=True)]
    blocks = [below(heads, 4)]
    for scale in sorted({scale for pool in pools for scale in pool.kernels}):
        blocks.append(_rule())
        blocks.append(_kernels_part(pools, colours, scale))
    if any(pool.noise for pool in pools):
        blocks.append(_rule())
        blocks.append(_noise_part(pools, colours))
    write_uint8(path, framed(below(blocks, 16)))


def _rule() -> Block:
    return np.full((1, WIDTH, 3), GRID, np.uint8)


def _kernels_part(pools: Sequence[PoolStatistics], colours: Sequence[tuple[int, int, int]], scale: int) -> Block:
    """Tiles of kernels to the left, their spectra to the right."""
    rows = 3 if len(pools) == 1 else 2
    shown, curves = [], []
    for pool, colour in zip(pools, colours, strict=True):
        if scale not in pool.kernels:
            continue
        statistics = pool.kernels[scale]
        kernels = list(statistics.kernels.items())
        shown.append((pool, colour, [kernels[i] for i in _spread_out(len(kernels), rows * COLUMNS)]))
        low, high = np.percentile(statistics.spectra, [10, 90], axis=0)
        curves.append(Curve(FREQUENCIES, statistics.spectrum, colour, f"mean of {len(kernels)}", band=(low, high)))
    curves.append(Curve(FREQUENCIES, kernel_spectrum(bicubic_kernel(scale)), FAINT, "bicubic", dashed=True))
    side = _common_side([kernel for _, _, kernels in shown for _, kernel in kernels])
    left = [label(f"Kernels for scale {scale}", COLUMNS * (TILE + 8), 17)]
    for pool, colour, kernels in shown:
        statistics = pool.kernels[scale]
        long, short = np.median([moments.spread for moments in statistics.moments.values()], axis=0)
        text = f"{len(statistics.moments)} kernels, {len(kernels)} shown; standard deviations {long:.2f} and "
        left.append(label(f"{text}{short:.2f} pixels (medians)", COLUMNS * (TILE + 8), 13, colour))
        left.append(_grid([_kernel_tile(name, kernel, side) for name, kernel in kernels], COLUMNS, 8))
    spectrum = plot(
        curves,
        "Spectrum (band: 10 to 90 % of the kernels)",
        "cycles a pixel of HR",
        TENTHS,
        (0, 0.25, 0.5, 0.75, 1),
        size=(270, WIDTH - COLUMNS * (TILE + 8) - 24),
        mark=(0.5 / scale, "limit of LR"),
    )
    return beside([_padded(below(left, 8), COLUMNS * (TILE + 8)), spectrum], 24)


def _noise_part(pools: Sequence[PoolStatistics], colours: Sequence[tuple[int, int, int]]) -> Block:
    """Patches above; colours, autocorrelation and spectrum below."""
    parts = [label("Noise patches, with the same contrast for all", WIDTH, 17)]
    gain = 40 / max(0.1, *(float(pool.noise.level.max()) for pool in pools if pool.noise))
    lags = np.arange(LAGS + 1)
    matrices, correlations, spectra = [], [], []
    for pool, colour in zip(pools, colours, strict=True):
        if pool.noise is None:
            parts.append(label(f"{pool.folder.as_posix()}: no noise patches", WIDTH, 13, colour))
            continue
        noise = pool.noise
        red, green, blue = noise.level
        text = f"{len(pool.patches)} patches; levels R {red:.2f}, G {green:.2f}, B {blue:.2f} of 255"
        parts.append(label(text, WIDTH, 13, colour))
        shown = [pool.patches[i] for i in _spread_out(len(pool.patches), NOISE_COLUMNS)]
        parts.append(beside([_noise_tile(path, gain) for path in shown], 15))
        matrices.append(heat_matrix(noise.colour_correlation, "RGB", colour))
        correlations.append(Curve(lags, noise.autocorrelation[1], colour, "to the right"))
        correlations.append(Curve(lags, noise.autocorrelation[0], colour, "down", dashed=True))
        spectra.append(Curve(FREQUENCIES, 10 * np.log10(noise.spectrum.clip(min=1e-4)), colour))
    spectra.append(Curve(FREQUENCIES, np.zeros_like(FREQUENCIES), FAINT, "white noise", dashed=True))
    colour_block = below([label("Correlation of the colours", 170, 13), below(matrices, 8)], 6)
    lowest = 10 * math.floor(min(curve.y.min() for curve in spectra) / 10)
    highest = 10 * math.ceil(max(1, *(curve.y.max() for curve in spectra)) / 10)
    size = (250, (WIDTH - colour_block.shape[1] - 80) // 2)
    levels = tuple(range(lowest, highest + 1, 10))
    plots = [
        plot(correlations, "Autocorrelation", "lag in pixels", (0, 2, 4, 6, 8), (-0.25, 0, 0.25, 0.5, 0.75, 1), size),
        plot(spectra, "Power, in dB, against white noise of the same level", "cycles a pixel", TENTHS, levels, size),
    ]
    return below([*parts, beside([colour_block, *plots], 40)], 8)


def _spread_out(count: int, wanted: int) -> list[int]:
    """Choose indices of `wanted` things out of `count`, evenly."""
    return sorted(set(np.linspace(0, count - 1, min(count, wanted)).round().astype(int).tolist()))


def _common_side(kernels: Sequence[Kernel]) -> int:
    """Return the side of the square around index k//2 that holds 99.5 % of each kernel's mass."""

    def radius(kernel: Kernel) -> int:
        rows, columns = np.abs(np.indices(kernel.shape) - np.array([[[n // 2]] for n in kernel.shape]))
        reach, mass = np.maximum(rows, columns).ravel(), np.abs(kernel).ravel()
        return int(np.searchsorted(np.cumsum(np.bincount(reach, mass)), 0.995 * mass.sum()))

    return 2 * max(4, *(radius(kernel) for kernel in kernels)) + 1


def _kernel_tile(name: str, kernel: Kernel, side: int) -> Block:
    """Draw a kernel, black to bright up to its own maximum, with its index k//2 in the middle, and its name."""
    window = window_kernel(kernel, side)
    tile = cv2.resize(colour_values(window / window.max()), (TILE, TILE), interpolation=cv2.INTER_NEAREST_EXACT)
    return below([tile, label(name, TILE, 10, FAINT)], 2)


def _noise_tile(path: Path, gain: float) -> Block:
    """Draw the middle of a noise patch about gray, its deviations times `gain`; a small one enlarged."""
    patch = read_uint8(path).astype(np.float64)
    top, left = (max(0, (side - NOISE_TILE) // 2) for side in patch.shape[:2])
    shown = 128 + gain * (patch - patch.mean(axis=(0, 1)))[top : top + NOISE_TILE, left : left + NOISE_TILE]
    levels = shown.clip(0, 255).round().astype(np.uint8)
    tile = cv2.resize(levels, (NOISE_TILE, NOISE_TILE), interpolation=cv2.INTER_NEAREST_EXACT)
    return below([tile, label(path.stem, NOISE_TILE, 10, FAINT)], 2)


def _grid(tiles: Sequence[Block], columns: int, gap: int) -> Block:
    return below([beside(tiles[start : start + columns], gap) for start in range(0, len(tiles), columns)], 4)


def _padded(block: Block, width: int) -> Block:
    return beside([block, blank(1, max(0, width - block.shape[1]))], 0) if block.shape[1] < width else block
