"""A degradation pool, or two compared, in numbers: as a table to read and as a dict for JSON."""

from typing import Any

import numpy as np

from realsr.core.file_names import printable
from realsr.pools.pool_statistics import (
    FREQUENCIES,
    KernelStatistics,
    NoiseStatistics,
    PoolStatistics,
)

SHOWN_LAGS = (1, 2, 4, 8)
SHOWN_KERNELS = 20


def format_pool(pool: PoolStatistics) -> str:
    """Return the table of what a pool holds."""
    lines = [f"pool {printable(pool.folder)}"]
    for scale, statistics in pool.kernels.items():
        lines += ["", f"kernels for scale {scale}: {len(statistics.moments)}"]
        lines += _kernel_lines(statistics)
    if not pool.kernels:
        lines += ["", "no kernels"]
    lines += ["", *(_noise_lines(pool.noise) if pool.noise else ["no noise patches"])]
    return "\n".join(lines)


def _kernel_lines(statistics: KernelStatistics) -> list[str]:
    lines = [f"  {'':28} {'sum':>8} {'off centre':>14} {'std, long':>10} {'short':>6} {'angle':>6}"]
    for name, moments in list(statistics.moments.items())[:SHOWN_KERNELS]:
        row, column = moments.offset
        name = printable(name)
        short = name if len(name) <= 28 else f"…{name[-27:]}"
        lines.append(
            f"  {short:28} {moments.sum:8.4f} {row:+7.2f}{column:+7.2f} {moments.spread[0]:10.2f} "
            f"{moments.spread[1]:6.2f} {moments.angle:6.0f}"
        )
    if (more := len(statistics.moments) - SHOWN_KERNELS) > 0:
        lines.append(f"  and {more} more, in pool.json")
    long, short_axis = np.median([moments.spread for moments in statistics.moments.values()], axis=0)
    lines.append(f"  {'median':28} {'':8} {'':14} {long:10.2f} {short_axis:6.2f}")
    return lines


def _noise_lines(noise: NoiseStatistics) -> list[str]:
    lowest, highest = noise.levels.min(axis=0), noise.levels.max(axis=0)
    lines = [f"noise patches: {len(noise.levels)}", f"  {'':28} {'R':>7} {'G':>7} {'B':>7}"]
    for name, values in (("level (standard deviation)", noise.level), ("lowest", lowest), ("highest", highest)):
        lines.append(f"  {name:28} " + " ".join(f"{value:7.2f}" for value in values))
    for letter, values in zip("RGB", noise.colour_correlation, strict=True):
        lines.append(f"  {f'correlation with {letter}':28} " + " ".join(f"{value:7.2f}" for value in values))
    lines.append(f"  {'autocorrelation at lag':28} " + " ".join(f"{lag:7}" for lag in SHOWN_LAGS))
    for name, values in zip(("down", "to the right"), noise.autocorrelation, strict=True):
        lines.append(f"  {name:28} " + " ".join(f"{values[lag]:7.2f}" for lag in SHOWN_LAGS))
    return lines


def compare_pools(first: PoolStatistics, second: PoolStatistics) -> dict[str, Any]:
    """Return how the second pool differs from the first, for JSON: each number is second minus first.

    Kernels, by scale that both have: `spectrum`, the mean spectra's difference at `frequencies`, its largest absolute
    value, and the difference of the median spreads. Noise, if both have it: `level` as a ratio, and the differences
    of colour correlation, autocorrelation and spectrum. What only one of them has is left out.
    """
    kernels = {}
    for scale in sorted(first.kernels.keys() & second.kernels.keys()):
        one, two = first.kernels[scale], second.kernels[scale]
        difference = two.spectrum - one.spectrum
        spreads = [np.median([m.spread for m in pool.moments.values()], axis=0) for pool in (one, two)]
        kernels[f"x{scale}"] = {
            "spectrum": difference.tolist(),
            "largest_spectrum_difference": float(np.abs(difference).max()),
            "spread": (spreads[1] - spreads[0]).tolist(),
        }
    result: dict[str, Any] = {"frequencies": FREQUENCIES.tolist(), "kernels": kernels, "noise": None}
    if first.noise and second.noise:
        result["noise"] = {
            "level_ratio": (second.noise.level / first.noise.level.clip(min=1e-12)).tolist(),
            "colour_correlation": (second.noise.colour_correlation - first.noise.colour_correlation).tolist(),
            "autocorrelation": (second.noise.autocorrelation - first.noise.autocorrelation).tolist(),
            "spectrum": (second.noise.spectrum - first.noise.spectrum).tolist(),
        }
    return result


def format_comparison(first: PoolStatistics, second: PoolStatistics) -> str:
    """Return the table of two pools, A and B, and of how B differs from A."""
    lines = [f"A  {printable(first.folder)}", f"B  {printable(second.folder)}"]
    for scale in sorted(first.kernels.keys() | second.kernels.keys()):
        pair = first.kernels.get(scale), second.kernels.get(scale)
        if pair[0] is None or pair[1] is None:
            lines += ["", f"kernels for scale {scale}: none in {'A' if pair[0] is None else 'B'}"]
            continue
        lines += ["", f"kernels for scale {scale} {'':24} {'A':>8} {'B':>8} {'B - A':>8}"]
        lines.append(f"  {'how many':40} {len(pair[0].moments):8} {len(pair[1].moments):8}")
        spreads = [np.median([m.spread for m in pool.moments.values()], axis=0) for pool in pair if pool]
        for name, one, two in zip(("long", "short"), *spreads, strict=True):
            lines.append(_line(f"standard deviation, {name} axis", one, two))
        for part in (0.25, 0.5, 1.0):
            frequency = part * 0.5 / scale
            values = [float(np.interp(frequency, FREQUENCIES, pool.spectrum)) for pool in pair if pool]
            lines.append(_line(f"spectrum at {frequency:.3f} cycles a pixel", *values))
    lines += ["", *_compare_noise(first.noise, second.noise)]
    return "\n".join(lines)


def _compare_noise(first: NoiseStatistics | None, second: NoiseStatistics | None) -> list[str]:
    if first is None or second is None:
        where = "neither" if first is second else "A alone" if first else "B alone"
        return [f"noise patches: in {where}"]
    lines = [f"noise {'':36} {'A':>8} {'B':>8} {'B - A':>8}"]
    lines.append(f"  {'how many patches':40} {len(first.levels):8} {len(second.levels):8}")
    for index, letter in enumerate("RGB"):
        lines.append(_line(f"level {letter}", first.level[index], second.level[index]))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        one, two = (noise.colour_correlation[i, j] for noise in (first, second))
        lines.append(_line(f"correlation {'RGB'[i]} {'RGB'[j]}", one, two))
    for axis, name in enumerate(("down", "to the right")):
        for lag in SHOWN_LAGS:
            one, two = (noise.autocorrelation[axis, lag] for noise in (first, second))
            lines.append(_line(f"autocorrelation {name}, lag {lag}", one, two))
    return lines


def _line(name: str, first: float, second: float) -> str:
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
    noise = None
    if pool.noise is not None:
        noise = {
            "patches": len(pool.noise.levels),
            "level": pool.noise.level.tolist(),
            "lowest_level": pool.noise.levels.min(axis=0).tolist(),
            "highest_level": pool.noise.levels.max(axis=0).tolist(),
            "colour_correlation": pool.noise.colour_correlation.tolist(),
            "autocorrelation": pool.noise.autocorrelation.tolist(),
            "spectrum": pool.noise.spectrum.tolist(),
        }
    return {"pool": str(pool.folder), "frequencies": FREQUENCIES.tolist(), "kernels": kernels, "noise": noise}
