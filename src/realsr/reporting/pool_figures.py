"""Pictures of a pool's kernels and noise patches, plots of both, and a sheet of all kernels."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from realsr.imaging import read_uint8, write_uint8
from realsr.imaging.kernel_shapes import Kernel, load_kernel
from realsr.pools.pool_statistics import (
    FREQUENCIES,
    NoiseStatistics,
    PoolStatistics,
    bicubic_kernel,
    kernel_spectrum,
)
from realsr.reporting.drawing import (
    FAINT,
    INK,
    Tile,
    center_kernel,
    choose_evenly,
    colour_values,
    draw_tiles,
    repeat_pixels,
    stack,
)
from realsr.reporting.pages import Picture, Plot, embed
from realsr.reporting.svg_plots import Line, plot_lines

RED = "#be1e2d"
KERNEL_SIDE, NOISE_SIDE = 136, 128  # of a picture, in pixels
WINDOW = 17  # side of the central part of a kernel that the sheet shows
CONTRAST = 40  # standard deviation of the noisiest channel in pictures of patches, in 8-bit levels
MAX_SHEET_KERNELS = 400
MAX_KERNELS, MAX_PATCHES = 24, 12  # on a page


def draw_sheet(path: Path, pool: Path, items: Mapping[str, Mapping[str, Any]]) -> None:
    """Write a PNG, atomically, of the x2 kernels of a pool; the first draw of each item.

    items: of the pool's manifest. Each kernel is scaled to its own maximum, to compare shapes.
    """
    rejections = sum(bool(item["rejected"]) for item in items.values())
    names = choose_evenly(sorted(items), MAX_SHEET_KERNELS)
    title = f"{len(items) - rejections} kernels for scale 2"
    if rejections:
        title += f", and {rejections} rejected (red)"
    if len(names) < len(items):
        title += f"; {len(names)} shown, evenly chosen by name"
    title += "\neach scaled to its own maximum; black is 0"
    columns = max(4, math.ceil(math.sqrt(1.5 * len(names))))
    tiles = [_make_tile(name, items[name], pool) for name in names]
    write_uint8(path, stack([draw_tiles(tiles, columns, KERNEL_SIDE, title)]))


def _make_tile(name: str, item: Mapping[str, Any], pool: Path) -> Tile:
    """Return a tile of an item's kernel (gray if missing), with its numbers and reject reason."""
    paths = sorted(pool / relative for relative in item["files"] if relative.endswith("_x2.mat"))
    health, lines = item["health"] or {}, [(name, INK)]
    if "spread_long" in health:
        spread = f"spread {health['spread_long']:.2f} x {health['spread_short']:.2f} px"
        lines.append((spread, FAINT))
    if "sum" in health:
        seeds = "" if health.get("agreement") is None else f"  seeds {health['agreement']:.0f} dB"
        lines.append((f"sum {health['sum']:.2f}{seeds}", FAINT))
    reasons = item["rejected"]
    for reason in reasons[:1]:
        lines += [(line, RED) for line in textwrap.wrap(reason, KERNEL_SIDE // 6)[:2]]
    if len(reasons) > 1:
        lines.append((f"and {len(reasons) - 1} more", RED))
    gray = np.full((KERNEL_SIDE, KERNEL_SIDE, 3), 220, np.uint8)
    pixels = paint_kernel(load_kernel(paths[0]), WINDOW) if paths else gray
    return Tile(pixels, lines, RED if reasons else None)


def paint_kernel(kernel: Kernel, side: int) -> np.ndarray:
    """Return the centre (side, side) of a kernel, magnified, scaled to its maximum; black is 0."""
    return repeat_pixels(colour_values(center_kernel(kernel, side) / kernel.max()), KERNEL_SIDE)


def embed_kernel(name: str, kernel: Kernel, side: int) -> Picture:
    """Return a picture of the centre (side, side) of a kernel, as `paint_kernel` does."""
    return embed(paint_kernel(kernel, side), f"kernel of {name}", pixelated=True)


def common_side(kernels: Sequence[Kernel]) -> int:
    """Return the side of the square around index k//2 with 99.5 % of the mass of every kernel."""

    def radius(kernel: Kernel) -> int:
        """Return the distance from the centre that encloses 99.5 % of the mass."""
        centre = np.array([[[n // 2]] for n in kernel.shape])
        rows, columns = np.abs(np.indices(kernel.shape) - centre)
        reach, mass = np.maximum(rows, columns).ravel(), np.abs(kernel).ravel()
        return int(np.searchsorted(np.cumsum(np.bincount(reach, mass)), 0.995 * mass.sum()))

    return min(KERNEL_SIDE, 2 * max(4, *(radius(kernel) for kernel in kernels)) + 1)


def choose_gain(noise: Sequence[NoiseStatistics]) -> float:
    """Return the amplification of patches that gives the noisiest channel the standard contrast."""
    return CONTRAST / max(0.1, *(float(item.level.max()) for item in noise))


def embed_noise(path: Path, gain: float) -> Picture:
    """Return a picture of the centre of a noise patch, amplified by `gain` about mid-gray."""
    patch = read_uint8(path).astype(np.float64)
    top, left = (max(0, (length - NOISE_SIDE) // 2) for length in patch.shape[:2])
    noise = patch - patch.mean(axis=(0, 1))
    levels = 128 + gain * noise[top : top + NOISE_SIDE, left : left + NOISE_SIDE]
    pixels = levels.clip(0, 255).round().astype(np.uint8)
    return embed(pixels, f"noise patch {path.stem}, amplified {gain:.0f} times", pixelated=True)


def label_pools(pools: Sequence[PoolStatistics]) -> list[str]:
    """Return the prefix of each pool's titles: `A: ` and `B: `, or nothing for a single pool."""
    return ["A: ", "B: "] if len(pools) > 1 else [""]


def plot_kernel_spectra(pools: Sequence[PoolStatistics], scale: int) -> Plot:
    """Return a plot of the mean spectra of the kernels, with a band of 10 to 90 % of the kernels."""
    lines = []
    for index, (label, pool) in enumerate(zip(label_pools(pools), pools, strict=True)):
        if scale in pool.kernels:
            statistics = pool.kernels[scale]
            low, high = np.percentile(statistics.spectra, [10, 90], axis=0)
            name, spectrum = f"{label}mean of {len(statistics.kernels)}", statistics.spectrum
            lines.append(Line(name, FREQUENCIES, spectrum, band=(low, high), colour=index))
    bicubic = kernel_spectrum(bicubic_kernel(scale))
    lines.append(Line("bicubic", FREQUENCIES, bicubic, dashed=True, colour=2))
    title = f"Spectra of the kernels for scale {scale} (band: 10 to 90 %)"
    return plot_lines(title, lines, "cycles per pixel of HR", limit=(0.5 / scale, "limit of LR"))


def plot_noise(pools: Sequence[PoolStatistics]) -> list[Plot]:
    """Return plots of autocorrelation and power spectrum; white noise is 0 dB."""
    correlations, powers = [], []
    for index, (label, pool) in enumerate(zip(label_pools(pools), pools, strict=True)):
        if pool.noise is None:
            continue
        down, right = pool.noise.autocorrelation
        lags = np.arange(len(down))
        correlations.append(Line(f"{label}to the right", lags, right, colour=index))
        correlations.append(Line(f"{label}down", lags, down, dashed=True, colour=index))
        decibels = 10 * np.log10(pool.noise.spectrum.clip(min=1e-4))
        powers.append(Line(f"{label}patches", FREQUENCIES, decibels, colour=index))
    white = np.zeros(len(FREQUENCIES))
    powers.append(Line("white noise", FREQUENCIES, white, dashed=True, colour=2))
    title = "Power spectrum in dB, relative to white noise of the same level"
    return [
        plot_lines(title, powers, "cycles per pixel"),
        plot_lines("Autocorrelation of the noise", correlations, "lag in pixels"),
    ]
