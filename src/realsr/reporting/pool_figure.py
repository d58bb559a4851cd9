"""Figures of degradation pools: kernels, noise and statistics of one or two; a sheet of kernels."""

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
    LAGS,
    PoolStatistics,
    bicubic_kernel,
    kernel_spectrum,
)
from realsr.reporting.drawing import (
    FAINT,
    FRAME,
    GRID,
    INK,
    Page,
    Tile,
    center_kernel,
    choose_evenly,
    colour_values,
    draw_tiles,
    repeat_pixels,
    shorten,
    stack,
)
from realsr.reporting.pool_table import median_spread

RED = "#be1e2d"
PAIR = ("#1f6eb4", "#e27418")
WIDTH = 1150
KERNEL_SIDE, KERNEL_COLUMNS = 100, 6
NOISE_SIDE, NOISE_COLUMNS = 128, 8
MAX_KERNELS = 400  # on the sheet
WINDOW = 17  # side of the central part of a kernel that the sheet shows
SHEET_SIDE = 8 * WINDOW


def write_pool_figure(path: Path, pools: Sequence[PoolStatistics]) -> None:
    """Write a PNG, atomically, of one pool or of two to compare. Noise patches are read again."""
    head = Page(WIDTH, 40 + 20 * len(pools))
    title = "Degradation pool" if len(pools) == 1 else "Comparison of degradation pools"
    head.write(title, FRAME, 0, 22)
    for index, (pool, colour) in enumerate(zip(pools, PAIR, strict=False)):
        head.write(shorten(pool.folder.as_posix(), WIDTH, 14), FRAME, 34 + 20 * index, 14, colour)
    scales = sorted({scale for pool in pools for scale in pool.kernels})
    blocks = [head.render(), *(_draw_kernels(pools, scale) for scale in scales)]
    if any(pool.noise for pool in pools):
        blocks.append(_draw_noise(pools))
    write_uint8(path, stack(blocks))


def _draw_kernels(pools: Sequence[PoolStatistics], scale: int) -> np.ndarray:
    """Draw kernels on the left and their spectra on the right."""
    entries = [
        (pool.kernels[scale], colour)
        for pool, colour in zip(pools, PAIR, strict=False)
        if scale in pool.kernels
    ]
    count = KERNEL_COLUMNS * (3 if len(pools) == 1 else 2)
    chosen = [choose_evenly(list(statistics.kernels.items()), count) for statistics, _ in entries]
    side = min(KERNEL_SIDE, _common_side([kernel for kernels in chosen for _, kernel in kernels]))
    sheets = []
    for (statistics, colour), kernels in zip(entries, chosen, strict=True):
        long, short = median_spread(statistics)
        title = f"{len(statistics.moments)} kernels, {len(kernels)} shown; "
        title += f"median spread {long:.2f} x {short:.2f} px"
        tiles = [_make_kernel_tile(name, kernel, side) for name, kernel in kernels]
        sheets.append(draw_tiles(tiles, KERNEL_COLUMNS, KERNEL_SIDE, title, colour))
    page = _start_section(f"Kernels for scale {scale}", sheets, 320)
    left = sheets[0].shape[1] + 60
    axes = page.plot(left, 70, WIDTH - left - 20, 210, "Spectrum (band: 10 to 90 % of the kernels)")
    for statistics, colour in entries:
        low, high = np.percentile(statistics.spectra, [10, 90], axis=0)
        axes.fill_between(FREQUENCIES, low, high, color=colour, alpha=0.18)
        label = f"mean of {len(statistics.kernels)}"
        axes.plot(FREQUENCIES, statistics.spectrum, color=colour, label=label)
    bicubic = kernel_spectrum(bicubic_kernel(scale))
    axes.plot(FREQUENCIES, bicubic, "--", color=FAINT, label="bicubic")
    axes.axvline(0.5 / scale, color=FAINT, linewidth=1, label="limit of LR")
    axes.set(xlim=(0, 0.5), ylim=(0, 1), xlabel="cycles per pixel of HR")
    axes.legend(frameon=False, labelcolor="linecolor")
    return page.render()


def _draw_noise(pools: Sequence[PoolStatistics]) -> np.ndarray:
    """Draw patches, and below them colour correlation, autocorrelation and spectrum."""
    from matplotlib.colors import LinearSegmentedColormap

    gain = 40 / max(0.1, *(float(pool.noise.level.max()) for pool in pools if pool.noise))
    sheets = []
    for pool, colour in zip(pools, PAIR, strict=False):
        title = f"{pool.folder.as_posix()}: no noise patches"
        if pool.noise:
            red, green, blue = pool.noise.level
            title = f"{len(pool.patches)} patches; "
            title += f"levels R {red:.2f}, G {green:.2f}, B {blue:.2f} of 255"
        paths = choose_evenly(pool.patches, NOISE_COLUMNS)
        tiles = [_make_noise_tile(path, gain) for path in paths]
        sheets.append(draw_tiles(tiles, NOISE_COLUMNS, NOISE_SIDE, title, colour))
    top = sum(map(len, sheets)) + 70
    page = _start_section("Noise patches, all with the same contrast", sheets, top + 360)
    correlation = page.plot(250, top, 390, 260, "Autocorrelation")
    correlation.set(xlim=(0, LAGS), xlabel="lag in pixels")
    power = page.plot(720, top, 400, 260, "Power in dB, relative to white noise of the same level")
    power.set(xlim=(0, 0.5), xlabel="cycles per pixel")
    page.write("Colour correlation", 22, top - 22, 13)
    for pool, colour in zip(pools, PAIR, strict=False):
        if pool.noise is None:
            continue
        matrix = page.plot(22, top, 150, 150)
        top += 180
        shades = LinearSegmentedColormap.from_list("", [FAINT, "white", colour])
        matrix.imshow(pool.noise.colour_correlation, shades, vmin=-1.3, vmax=1.3)
        matrix.set(xticks=range(3), xticklabels="RGB", yticks=range(3), yticklabels="RGB")
        matrix.grid(False)
        for (row, column), value in np.ndenumerate(pool.noise.colour_correlation):
            ink = "white" if abs(value) > 0.67 else INK
            matrix.text(
                column, row, f"{value:.2f}", ha="center", va="center", fontsize=12, color=ink
            )
        down, right = pool.noise.autocorrelation
        correlation.plot(right, color=colour, label="to the right")
        correlation.plot(down, "--", color=colour, label="down")
        power.plot(FREQUENCIES, 10 * np.log10(pool.noise.spectrum.clip(min=1e-4)), color=colour)
    power.axhline(0, color=FAINT, linestyle="--", label="white noise")
    for axes in (correlation, power):
        axes.legend(frameon=False, labelcolor="linecolor")
    return page.render()


def _start_section(title: str, sheets: Sequence[np.ndarray], height: int) -> Page:
    """Return a page of at least this height, with a line, a title and the sheets."""
    top = 50
    page = Page(WIDTH, max(height, top + sum(map(len, sheets))))
    page.plot(0, 12, WIDTH, 1).set(xticks=[], yticks=[], facecolor=GRID)
    page.write(title, FRAME, 22, 17)
    for sheet in sheets:
        page.show(sheet, 0, top)
        top += len(sheet)
    return page


def _common_side(kernels: Sequence[Kernel]) -> int:
    """Return the side of the square around index k//2 with 99.5 % of the mass of every kernel."""

    def radius(kernel: Kernel) -> int:
        """Return the distance from the centre that encloses 99.5 % of the mass."""
        centre = np.array([[[n // 2]] for n in kernel.shape])
        rows, columns = np.abs(np.indices(kernel.shape) - centre)
        reach, mass = np.maximum(rows, columns).ravel(), np.abs(kernel).ravel()
        return int(np.searchsorted(np.cumsum(np.bincount(reach, mass)), 0.995 * mass.sum()))

    return 2 * max(4, *(radius(kernel) for kernel in kernels)) + 1


def _make_kernel_tile(name: str, kernel: Kernel, side: int) -> Tile:
    """Return a tile of a kernel with its index k//2 in the centre, scaled to its maximum."""
    window = center_kernel(kernel, side)
    return Tile(repeat_pixels(colour_values(window / window.max()), KERNEL_SIDE), [(name, FAINT)])


def _make_noise_tile(path: Path, gain: float) -> Tile:
    """Return a tile of the centre of a noise patch, amplified by `gain` about mid-gray."""
    patch = read_uint8(path).astype(np.float64)
    top, left = (max(0, (length - NOISE_SIDE) // 2) for length in patch.shape[:2])
    noise = patch - patch.mean(axis=(0, 1))
    levels = 128 + gain * noise[top : top + NOISE_SIDE, left : left + NOISE_SIDE]
    pixels = levels.clip(0, 255).round().astype(np.uint8)
    return Tile(repeat_pixels(pixels, NOISE_SIDE), [(path.stem, FAINT)])


def draw_sheet(path: Path, pool: Path, items: Mapping[str, Mapping[str, Any]]) -> None:
    """Write a PNG, atomically, of the x2 kernels of a pool; the first draw of each item.

    items: of the pool's manifest. Each kernel is scaled to its own maximum, to compare shapes.
    """
    rejections = sum(bool(item["rejected"]) for item in items.values())
    names = choose_evenly(sorted(items), MAX_KERNELS)
    title = f"{len(items) - rejections} kernels for scale 2"
    if rejections:
        title += f", and {rejections} rejected (red)"
    if len(names) < len(items):
        title += f"; {len(names)} shown, evenly chosen by name"
    title += "\neach scaled to its own maximum; black is 0"
    columns = max(4, math.ceil(math.sqrt(1.5 * len(names))))
    tiles = [_make_sheet_tile(name, items[name], pool) for name in names]
    write_uint8(path, stack([draw_tiles(tiles, columns, SHEET_SIDE, title)]))


def _make_sheet_tile(name: str, item: Mapping[str, Any], pool: Path) -> Tile:
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
        lines += [(line, RED) for line in textwrap.wrap(reason, SHEET_SIDE // 6)[:2]]
    if len(reasons) > 1:
        lines.append((f"and {len(reasons) - 1} more", RED))
    gray = np.full((SHEET_SIDE, SHEET_SIDE, 3), 220, np.uint8)
    pixels = paint_kernel(load_kernel(paths[0])) if paths else gray
    return Tile(pixels, lines, RED if reasons else None)


def paint_kernel(kernel: np.ndarray) -> np.ndarray:
    """Return a kernel's centre magnified, scaled to its maximum: (136, 136, 3) uint8 RGB."""
    return repeat_pixels(colour_values(center_kernel(kernel, WINDOW) / kernel.max()), SHEET_SIDE)
