"""Sections of a page about one or two pools: kernels, noise patches, spectra and tables."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from realsr.core.file_names import printable
from realsr.imaging import read_uint8
from realsr.imaging.kernel_shapes import Kernel
from realsr.pools.pool_statistics import (
    FREQUENCIES,
    KernelStatistics,
    NoiseStatistics,
    PoolStatistics,
    bicubic_kernel,
    kernel_spectrum,
)
from realsr.reporting.drawing import center_kernel, choose_evenly, colour_values, repeat_pixels
from realsr.reporting.pages import (
    Block,
    Card,
    Cards,
    Details,
    Facts,
    PageTable,
    Paragraph,
    Picture,
    PlainText,
    Plot,
    Plots,
    Section,
    embed,
    embed_data,
)
from realsr.reporting.pool_table import (
    compare_pools,
    describe_pool,
    format_comparison,
    format_pool,
    median_spread,
)
from realsr.reporting.svg_plots import Line, plot_lines

KERNEL_SIDE = 136
NOISE_SIDE = 128
CONTRAST = 40  # standard deviation of the noisiest channel in pictures of patches, in 8-bit levels
MAX_KERNELS, MAX_PATCHES = 24, 12


def make_pool_sections(pools: Sequence[PoolStatistics]) -> list[Section]:
    """Return the sections of a page about one pool, or about two (A and B) and their differences."""
    if len(pools) == 1:
        text, facts = format_pool(pools[0]), describe_pool(pools[0])
    else:
        text = format_comparison(*pools)
        facts = {"A": describe_pool(pools[0]), "B": describe_pool(pools[1])}
        facts["B_minus_A"] = compare_pools(*pools)
    data = embed_data(json.dumps(facts, indent=1).encode(), "pool.json", "pool.json")
    sections = []
    for scale in sorted({scale for pool in pools for scale in pool.kernels}):
        blocks: list[Block] = [Plots([plot_kernel_spectra(pools, scale)])]
        for letter, pool in zip("AB", pools, strict=False):
            if scale in pool.kernels:
                blocks += _show_kernels(pool.kernels[scale], _title(pools, letter))
        sections.append(Section(f"kernels-x{scale}", f"Kernels for scale {scale}", blocks))
    noise = [pool for pool in pools if pool.noise]
    if noise:
        blocks = [Plots(plot_noise(pools))]
        gain = choose_gain([pool.noise for pool in noise if pool.noise])
        for letter, pool in zip("AB", pools, strict=False):
            blocks += _show_noise(pool, gain, _title(pools, letter))
        sections.append(Section("noise", "Noise patches", blocks))
    folders = {
        _title(pools, letter).removesuffix(": ") or "pool": printable(pool.folder)
        for letter, pool in zip("AB", pools, strict=False)
    }
    table = PlainText("Table", text)
    summary: list[Block] = [Facts(folders), table, Paragraph(["All numbers: ", data])]
    if reasons := [reason for pool in pools for reason in pool.unreadable]:
        summary.append(Paragraph(f"Unreadable files, not included: {'; '.join(reasons)}"))
    return [Section("summary", "Summary", summary), *sections]


def _title(pools: Sequence[PoolStatistics], letter: str) -> str:
    return f"{letter}: " if len(pools) > 1 else ""


def _show_kernels(statistics: KernelStatistics, title: str) -> list[Block]:
    kernels = choose_evenly(list(statistics.kernels.items()), MAX_KERNELS)
    side = common_side([kernel for _, kernel in kernels])
    cards = []
    for name, kernel in kernels:
        long, short = statistics.moments[name].spread
        line = f"spread {long:.2f} x {short:.2f} px"
        cards.append(Card(printable(name), [embed_kernel(name, kernel, side)], [line]))
    long, short = median_spread(statistics)
    text = f"{title}{len(statistics.kernels)} kernels, {len(kernels)} shown. "
    text += f"Median spread {long:.2f} x {short:.2f} px. Each is scaled to its own maximum."
    return [Paragraph(text), Cards(cards)]


def _show_noise(pool: PoolStatistics, gain: float, title: str) -> list[Block]:
    if pool.noise is None:
        return [Paragraph(f"{title}no noise patches.")]
    patches = choose_evenly(pool.patches, MAX_PATCHES)
    cards = [Card(printable(path.stem), [embed_noise(path, gain)]) for path in patches]
    red, green, blue = pool.noise.level
    text = f"{title}{len(pool.patches)} patches, {len(patches)} shown, all with the same contrast. "
    text += f"Standard deviation of R {red:.2f}, G {green:.2f}, B {blue:.2f} of 255."
    rows = [
        [f"{title}{name}", *(f"{value:.2f}" for value in values)]
        for name, values in zip("RGB", pool.noise.colour_correlation, strict=True)
    ]
    table = PageTable("Correlation of the colours", ["", "R", "G", "B"], rows)
    return [Paragraph(text), Cards(cards), Details(f"{title}Correlation of the colours", [table])]


def choose_gain(noise: Sequence[NoiseStatistics]) -> float:
    """Return the amplification of patches that gives the noisiest channel the standard contrast."""
    return CONTRAST / max(0.1, *(float(item.level.max()) for item in noise))


def plot_kernel_spectra(pools: Sequence[PoolStatistics], scale: int) -> Plot:
    """Return a plot of the mean spectra of the kernels, with a band of 10 to 90 % of the kernels."""
    lines = []
    for index, pool in enumerate(pools):
        if scale in pool.kernels:
            statistics = pool.kernels[scale]
            low, high = np.percentile(statistics.spectra, [10, 90], axis=0)
            name = f"{_title(pools, 'AB'[index])}mean of {len(statistics.kernels)}"
            spectrum = statistics.spectrum
            lines.append(Line(name, FREQUENCIES, spectrum, band=(low, high), colour=index))
    bicubic = kernel_spectrum(bicubic_kernel(scale))
    lines.append(Line("bicubic", FREQUENCIES, bicubic, dashed=True, colour=2))
    title = f"Spectra of the kernels for scale {scale} (band: 10 to 90 %)"
    return plot_lines(title, lines, "cycles per pixel of HR", limit=(0.5 / scale, "limit of LR"))


def plot_noise(pools: Sequence[PoolStatistics]) -> list[Plot]:
    """Return plots of autocorrelation and power spectrum; white noise is 0 dB."""
    correlations, powers = [], []
    for index, pool in enumerate(pools):
        if pool.noise is None:
            continue
        title, lags = _title(pools, "AB"[index]), np.arange(len(pool.noise.autocorrelation[0]))
        down, right = pool.noise.autocorrelation
        correlations.append(Line(f"{title}to the right", lags, right, colour=index))
        correlations.append(Line(f"{title}down", lags, down, dashed=True, colour=index))
        decibels = 10 * np.log10(pool.noise.spectrum.clip(min=1e-4))
        powers.append(Line(f"{title}patches", FREQUENCIES, decibels, colour=index))
    white = np.zeros(len(FREQUENCIES))
    powers.append(Line("white noise", FREQUENCIES, white, dashed=True, colour=2))
    title = "Power spectrum in dB, relative to white noise of the same level"
    return [
        plot_lines(title, powers, "cycles per pixel"),
        plot_lines("Autocorrelation of the noise", correlations, "lag in pixels"),
    ]


def common_side(kernels: Sequence[Kernel]) -> int:
    """Return the side of the square around index k//2 with 99.5 % of the mass of every kernel."""

    def radius(kernel: Kernel) -> int:
        """Return the distance from the centre that encloses 99.5 % of the mass."""
        centre = np.array([[[n // 2]] for n in kernel.shape])
        rows, columns = np.abs(np.indices(kernel.shape) - centre)
        reach, mass = np.maximum(rows, columns).ravel(), np.abs(kernel).ravel()
        return int(np.searchsorted(np.cumsum(np.bincount(reach, mass)), 0.995 * mass.sum()))

    return min(KERNEL_SIDE, 2 * max(4, *(radius(kernel) for kernel in kernels)) + 1)


def embed_kernel(name: str, kernel: Kernel, side: int) -> Picture:
    """Return a picture of a kernel's centre, (side, side), scaled to its maximum; black is 0."""
    window = center_kernel(kernel, side)
    pixels = repeat_pixels(colour_values(window / window.max()), KERNEL_SIDE)
    return embed(pixels, f"kernel of {name}", pixelated=True)


def embed_noise(path: Path, gain: float) -> Picture:
    """Return a picture of the centre of a noise patch, amplified by `gain` about mid-gray."""
    patch = read_uint8(path).astype(np.float64)
    top, left = (max(0, (length - NOISE_SIDE) // 2) for length in patch.shape[:2])
    noise = patch - patch.mean(axis=(0, 1))
    levels = 128 + gain * noise[top : top + NOISE_SIDE, left : left + NOISE_SIDE]
    pixels = levels.clip(0, 255).round().astype(np.uint8)
    return embed(pixels, f"noise patch {path.stem}, amplified {gain:.0f} times", pixelated=True)
