"""The page about one or two pools, and its tables as text and as a dict for JSON."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from realsr.core.file_names import printable
from realsr.pools.pool_statistics import (
    FREQUENCIES,
    KernelStatistics,
    NoiseStatistics,
    PoolStatistics,
)
from realsr.reporting.drawing import choose_evenly
from realsr.reporting.pages import (
    Block,
    Card,
    Cards,
    Details,
    Facts,
    PageTable,
    Paragraph,
    PlainText,
    Plots,
    Section,
    embed_data,
)
from realsr.reporting.pool_figures import (
    MAX_KERNELS,
    MAX_PATCHES,
    choose_gain,
    common_side,
    embed_kernel,
    embed_noise,
    label_pools,
    plot_kernel_spectra,
    plot_noise,
)

TABLE_LAGS = (1, 2, 4, 8)
TABLE_KERNELS = 20
NOISE_ARRAYS = ("colour_correlation", "autocorrelation", "spectrum")


def make_pool_sections(pools: Sequence[PoolStatistics]) -> list[Section]:
    """Return the sections of a page about one pool, or about two (A and B) and their differences."""
    labels = label_pools(pools)
    sections = []
    for scale in sorted({scale for pool in pools for scale in pool.kernels}):
        blocks: list[Block] = [Plots([plot_kernel_spectra(pools, scale)])]
        for label, pool in zip(labels, pools, strict=True):
            if scale in pool.kernels:
                blocks += _show_kernels(pool.kernels[scale], label)
        sections.append(Section(f"kernels-x{scale}", f"Kernels for scale {scale}", blocks))
    if noise := [pool.noise for pool in pools if pool.noise]:
        blocks, gain = [Plots(plot_noise(pools))], choose_gain(noise)
        for label, pool in zip(labels, pools, strict=True):
            blocks += _show_noise(pool, gain, label)
        sections.append(Section("noise", "Noise patches", blocks))
    return [Section("summary", "Summary", _summarise(pools)), *sections]


def _summarise(pools: Sequence[PoolStatistics]) -> list[Block]:
    if len(pools) == 1:
        folders, facts = {"pool": printable(pools[0].folder)}, describe_pool(pools[0])
    else:
        folders = {letter: printable(pool.folder) for letter, pool in zip("AB", pools, strict=True)}
        facts = {letter: describe_pool(pool) for letter, pool in zip("AB", pools, strict=True)}
        facts["B_minus_A"] = compare_pools(*pools)
    data = embed_data(json.dumps(facts, indent=1).encode(), "pool.json", "pool.json")
    table = PlainText("Table", format_pools(pools))
    summary: list[Block] = [Facts(folders), table, Paragraph(["All numbers: ", data])]
    if reasons := [reason for pool in pools for reason in pool.unreadable]:
        summary.append(Paragraph(f"Unreadable files, not included: {'; '.join(reasons)}"))
    return summary


def _show_kernels(statistics: KernelStatistics, label: str) -> list[Block]:
    kernels = choose_evenly(list(statistics.kernels.items()), MAX_KERNELS)
    side = common_side([kernel for _, kernel in kernels])
    cards = []
    for name, kernel in kernels:
        long, short = statistics.moments[name].spread
        line = f"spread {long:.2f} x {short:.2f} px"
        cards.append(Card(printable(name), [embed_kernel(name, kernel, side)], [line]))
    long, short = median_spread(statistics)
    text = f"{label}{len(statistics.kernels)} kernels, {len(kernels)} shown. "
    text += f"Median spread {long:.2f} x {short:.2f} px. Each is scaled to its own maximum."
    return [Paragraph(text), Cards(cards)]


def _show_noise(pool: PoolStatistics, gain: float, label: str) -> list[Block]:
    if pool.noise is None:
        return [Paragraph(f"{label}no noise patches.")]
    patches = choose_evenly(pool.patches, MAX_PATCHES)
    cards = [Card(printable(path.stem), [embed_noise(path, gain)]) for path in patches]
    red, green, blue = pool.noise.level
    text = f"{label}{len(pool.patches)} patches, {len(patches)} shown, all with the same contrast. "
    text += f"Standard deviation of R {red:.2f}, G {green:.2f}, B {blue:.2f} of 255."
    rows = [
        [f"{label}{name}", *(f"{value:.2f}" for value in values)]
        for name, values in zip("RGB", pool.noise.colour_correlation, strict=True)
    ]
    table = PageTable("Correlation of the colours", ["", "R", "G", "B"], rows)
    return [Paragraph(text), Cards(cards), Details(f"{label}Correlation of the colours", [table])]


def format_pools(pools: Sequence[PoolStatistics]) -> str:
    """Return a table of a pool, or of two pools with their differences."""
    return format_pool(pools[0]) if len(pools) == 1 else format_comparison(*pools)


def format_pool(pool: PoolStatistics) -> str:
    """Return a table of the kernels and noise of a pool."""
    lines = [f"pool {printable(pool.folder)}"]
    for scale, statistics in pool.kernels.items():
        lines += ["", f"kernels for scale {scale}: {len(statistics.moments)}"]
        lines += _kernel_lines(statistics)
    if not pool.kernels:
        lines += ["", "no kernels"]
    noise_lines = _noise_lines(pool.noise) if pool.noise else ["no noise patches"]
    return "\n".join([*lines, "", *noise_lines])


def median_spread(statistics: KernelStatistics) -> np.ndarray:
    """Return the median spread of kernels along the long and the short axis, (2,)."""
    return np.median([moments.spread for moments in statistics.moments.values()], axis=0)


def _kernel_lines(statistics: KernelStatistics) -> list[str]:
    lines = [f"  {'':28} {'sum':>8} {'offset row':>10} {'column':>7} "]
    lines[0] += f"{'spread long':>11} {'short':>6} {'angle':>6}"
    for name, moments in list(statistics.moments.items())[:TABLE_KERNELS]:
        (row, column), (long, short) = moments.offset, moments.spread
        name = printable(name)
        name = name if len(name) <= 28 else f"…{name[-27:]}"
        # Adding 0 turns -0 into 0.
        place = f"{round(row, 2) + 0:+10.2f} {round(column, 2) + 0:+7.2f}"
        lines.append(
            f"  {name:28} {moments.sum:8.4f} {place} {long:11.2f} {short:6.2f} {moments.angle:6.0f}"
        )
    if (more := len(statistics.moments) - TABLE_KERNELS) > 0:
        lines.append(f"  and {more} more, in pool.json")
    long, short = median_spread(statistics)
    return [*lines, f"  {'median':28} {'':8} {'':10} {'':7} {long:11.2f} {short:6.2f}"]


def _noise_lines(noise: NoiseStatistics) -> list[str]:
    rows = {
        "level (standard deviation)": noise.level,
        "lowest": noise.levels.min(axis=0),
        "highest": noise.levels.max(axis=0),
    }
    for colour, values in zip("RGB", noise.colour_correlation, strict=True):
        rows[f"correlation with {colour}"] = values
    lags = {
        name: noise.autocorrelation[axis][list(TABLE_LAGS)]
        for axis, name in enumerate(("down", "to the right"))
    }
    return [
        f"noise patches: {len(noise.levels)}",
        f"  {'':28} {'R':>7} {'G':>7} {'B':>7}",
        *(_row(name, values) for name, values in rows.items()),
        f"  {'autocorrelation at lag':28} " + " ".join(f"{lag:7}" for lag in TABLE_LAGS),
        *(_row(name, values) for name, values in lags.items()),
    ]


def _row(name: str, values: np.ndarray) -> str:
    return f"  {name:28} " + " ".join(f"{value:7.2f}" for value in values)


def compare_pools(first: PoolStatistics, second: PoolStatistics) -> dict[str, Any]:
    """Return the differences of two pools, second minus first, for JSON.

    `kernels`, for each scale of both pools: the difference of the mean spectra at `frequencies`,
    its largest absolute value, and the difference of the median spreads. `noise`, None unless both
    pools have noise: the ratio of levels, and the differences of colour correlation,
    autocorrelation and spectrum.
    """
    kernels = {}
    for scale in sorted(first.kernels.keys() & second.kernels.keys()):
        a, b = first.kernels[scale], second.kernels[scale]
        difference = b.spectrum - a.spectrum
        kernels[f"x{scale}"] = {
            "spectrum": difference.tolist(),
            "largest_spectrum_difference": float(np.abs(difference).max()),
            "spread": (median_spread(b) - median_spread(a)).tolist(),
        }
    noise = None
    if first.noise and second.noise:
        noise = {"level_ratio": (second.noise.level / first.noise.level.clip(min=1e-12)).tolist()}
        for name in NOISE_ARRAYS:
            noise[name] = (getattr(second.noise, name) - getattr(first.noise, name)).tolist()
    return {"frequencies": FREQUENCIES.tolist(), "kernels": kernels, "noise": noise}


def format_comparison(first: PoolStatistics, second: PoolStatistics) -> str:
    """Return a table of two pools, A and B, with the differences B - A."""
    lines = [f"A  {printable(first.folder)}", f"B  {printable(second.folder)}"]
    for scale in sorted(first.kernels.keys() | second.kernels.keys()):
        a, b = first.kernels.get(scale), second.kernels.get(scale)
        if a is None or b is None:
            lines += ["", f"kernels for scale {scale}: none in {'A' if a is None else 'B'}"]
            continue
        lines += ["", f"kernels for scale {scale} {'':24} {'A':>8} {'B':>8} {'B - A':>8}"]
        lines.append(f"  {'number of kernels':40} {len(a.moments):8} {len(b.moments):8}")
        spreads = zip(("long", "short"), median_spread(a), median_spread(b), strict=True)
        for name, *values in spreads:
            lines.append(_difference(f"spread, {name} axis", *values))
        for part in (0.25, 0.5, 1.0):
            frequency = part * 0.5 / scale
            values = [float(np.interp(frequency, FREQUENCIES, pool.spectrum)) for pool in (a, b)]
            lines.append(_difference(f"spectrum at {frequency:.3f} cycles per pixel", *values))
    return "\n".join([*lines, "", *_compare_noise(first.noise, second.noise)])


def _compare_noise(first: NoiseStatistics | None, second: NoiseStatistics | None) -> list[str]:
    if first is None or second is None:
        owner = "neither" if first is second else "A only" if first else "B only"
        return [f"noise patches: in {owner}"]
    lines = [f"noise {'':36} {'A':>8} {'B':>8} {'B - A':>8}"]
    lines.append(f"  {'number of patches':40} {len(first.levels):8} {len(second.levels):8}")
    for index, letter in enumerate("RGB"):
        lines.append(_difference(f"level {letter}", first.level[index], second.level[index]))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        values = [noise.colour_correlation[i, j] for noise in (first, second)]
        lines.append(_difference(f"correlation {'RGB'[i]} {'RGB'[j]}", *values))
    for axis, name in enumerate(("down", "to the right")):
        for lag in TABLE_LAGS:
            values = [noise.autocorrelation[axis, lag] for noise in (first, second)]
            lines.append(_difference(f"autocorrelation {name}, lag {lag}", *values))
    return lines


def _difference(name: str, first: float, second: float) -> str:
    return f"  {name:40} {first:8.3f} {second:8.3f} {second - first:+8.3f}"


def describe_pool(pool: PoolStatistics) -> dict[str, Any]:
    """Return a pool's statistics for JSON."""
    kernels = {
        f"x{scale}": {
            "spectrum": statistics.spectrum.tolist(),
            "kernels": {name: vars(moments) for name, moments in statistics.moments.items()},
        }
        for scale, statistics in pool.kernels.items()
    }
    noise: dict[str, Any] | None = None
    if pool.noise is not None:
        noise = {
            "patches": len(pool.noise.levels),
            "level": pool.noise.level.tolist(),
            "lowest_level": pool.noise.levels.min(axis=0).tolist(),
            "highest_level": pool.noise.levels.max(axis=0).tolist(),
            **{name: getattr(pool.noise, name).tolist() for name in NOISE_ARRAYS},
        }
    return {
        "pool": str(pool.folder),
        "frequencies": FREQUENCIES.tolist(),
        "kernels": kernels,
        "noise": noise,
    }
