"""Figure of a comparison of two sets of photos: how far they are, what differs, and the curves."""

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from realsr.domains.comparison import DomainComparison, DomainStatistics
from realsr.domains.edges import DIRECTIONS
from realsr.domains.tile_statistics import FREQUENCIES, LAGS, LEVEL_BINS
from realsr.reporting.drawing import FAINT, FRAME, INK, Page, shorten, stack

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#1f6eb4", "#e27418")  # a, b
WIDTH, SIDE, HEIGHT = 1180, 330, 190
CLEAR, UNCLEAR = "#be1e2d", "#b5b5b5"
MAX_STEPS = 10.0  # of the bars; longer ones end there
SHORT_LABELS = {
    "noise": "noise level",
    "shadow_noise": "noise in shadows / brighter",
    "noise_grain": "noise: neighbouring pixels",
    "noise_colour": "noise: correlation of channels",
    "edge_width": "width of edges",
    "fine_detail": "fine detail",
    "direction": "direction of detail",
    "overshoot": "overshoot at edges",
    "blocking": "8x8 blocks",
    "saturation": "saturated pixels",
    "black_level": "black level",
}


def draw_domains(result: DomainComparison) -> np.ndarray:
    """Draw the summary, the differences as bars, and curves of the statistics: (H, W, 3) uint8."""
    page = Page(WIDTH, 1040)
    page.write("Distance of b from a", FRAME, 0, 22)
    sides = ((result.a, "a", COLOURS[0]), (result.b, "b", COLOURS[1]))
    for index, (side, letter, colour) in enumerate(sides):
        text = f"{letter}  {side.folder.as_posix()}: {len(side.names)} photos"
        page.write(shorten(text, WIDTH, 14), FRAME, 34 + 20 * index, 14, colour)
    summary = "\n".join(textwrap.wrap(result.summarise(), 150))
    page.write(summary, FRAME, 84, 14)
    _draw_scale(page.plot(60, 190, 300, 40, "Share of patches told apart"), result)
    _draw_differences(page.plot(240, 300, 300, 270, "Difference b - a, in steps"), result)
    left, middle, right = 40, 425, 810
    noise = page.plot(middle + 180, 190, 340, HEIGHT, "Noise level by brightness (green)")
    _draw_curves(noise, result, "noise_level", (1,), (np.arange(LEVEL_BINS) + 0.5) * 32)
    noise.set(xlim=(0, 256), ylim=(0, None), xlabel="brightness, levels")
    grain = page.plot(middle + 180 + 390, 190, 165, HEIGHT, "Correlation of noise")
    _draw_curves(grain, result, "noise_autocorrelation", (1, 1), np.arange(1, LAGS + 1))
    grain.set(xlim=(1, LAGS), ylim=(-0.2, 1), xlabel="shift to the right, pixels")
    widths = page.plot(middle + 180, 440, 340, 130, "Width of the sharpest edges, pixels (green)")
    _draw_groups(
        widths, result, "edge_width", (1,), [name.replace(" ", "\n") for name in DIRECTIONS]
    )
    over = page.plot(middle + 180 + 390, 440, 165, 130, "Overshoot, blocks")
    _draw_small(over, result)
    top = 660
    for name, title, place in (
        ("detail_spectrum", "Detailed regions: power in dB", left),
        ("flat_spectrum", "Flat regions: power in dB", middle),
    ):
        axes = page.plot(place, top, SIDE, 300, title)
        _draw_curves(axes, result, name, (1,), FREQUENCIES)
        axes.set(xlim=(0.06, 0.5), xlabel="cycles per pixel")
    direction = page.plot(right, top, SIDE, 300, "Fine detail by direction, dB of its mean")
    _draw_groups(
        direction, result, "detail_direction", (1,), ["0°", "45°", "90°", "135°"], width=0.3
    )
    return stack([page.render()])


def _draw_scale(axes: "Axes", result: DomainComparison) -> None:
    """Draw the classifier's accuracy between 50 and 100 %, and that of two halves of a."""
    axes.grid(visible=False)
    axes.set(xlim=(50, 100), ylim=(0, 1), yticks=[], xticks=[50, 60, 70, 80, 90, 100])
    axes.barh(0.5, 50, left=50, height=0.16, color="#eeeeee")
    for score, colour, label in (
        (result.halves, FAINT, "halves of a"),
        (result.accuracy, INK, "b"),
    ):
        if score is None or not np.isfinite(score.value):
            continue
        low, value, high = (100 * max(x, 0.5) for x in (score.low, score.value, score.high))
        axes.plot([low, high], [0.5, 0.5], color=colour, linewidth=2, alpha=0.5)
        axes.plot([value], [0.5], "o", color=colour, markersize=9, clip_on=False)
        axes.annotate(
            f"{label}: {100 * score.value:.0f} %",
            (value, 0.85),
            ha="center",
            fontsize=11,
            color=colour,
        )


def _draw_differences(axes: "Axes", result: DomainComparison) -> None:
    """Draw a bar for each quantity; clear differences in red."""
    findings = result.findings[::-1]
    values = [float(np.clip(f.difference, -MAX_STEPS, MAX_STEPS)) for f in findings]
    colours = [CLEAR if finding.is_clear else UNCLEAR for finding in findings]
    axes.barh(range(len(findings)), values, color=colours, height=0.62)
    for index, finding in enumerate(findings):
        low, high = np.clip(finding.interval, -MAX_STEPS, MAX_STEPS)
        if np.isfinite(low):
            axes.plot([low, high], [index, index], color=INK, linewidth=1)
    axes.set(xlim=(-MAX_STEPS, MAX_STEPS), ylim=(-0.6, len(findings) - 0.4))
    axes.set_yticks(range(len(findings)), [SHORT_LABELS[f.quantity.name] for f in findings])
    axes.grid(visible=False)
    axes.axvline(0, color=FAINT, linewidth=1)
    axes.set_xlabel("b less   |   b more")


def _draw_curves(
    axes: "Axes", result: DomainComparison, name: str, index: tuple[int, ...], x: np.ndarray
) -> None:
    """Draw a row of a statistic of both sets, with bands of its 95 % intervals over photos."""
    for side, colour in zip((result.a, result.b), COLOURS, strict=True):
        mean, low, high = (values[index] for values in _statistic(side, name))
        valid = np.isfinite(mean)
        axes.fill_between(x[valid], low[valid], high[valid], color=colour, alpha=0.18, linewidth=0)
        axes.plot(x[valid], mean[valid], "o-", color=colour, markersize=3)


def _draw_groups(
    axes: "Axes",
    result: DomainComparison,
    name: str,
    index: tuple[int, ...],
    labels: list[str],
    width: float = 0.3,
) -> None:
    """Draw a row of a statistic of both sets as pairs of bars with intervals."""
    x = np.arange(len(labels))
    for offset, side, colour in zip((-0.5, 0.5), (result.a, result.b), COLOURS, strict=True):
        mean, low, high = (values[index] for values in _statistic(side, name))
        axes.bar(x + offset * width, np.nan_to_num(mean), width * 0.9, color=colour)
        axes.vlines(x + offset * width, low, high, color=INK, linewidth=1)
    axes.set_xticks(x, labels)


def _draw_small(axes: "Axes", result: DomainComparison) -> None:
    """Draw overshoot and blocking, means over channels."""
    for offset, side, colour in zip((-0.15, 0.15), (result.a, result.b), COLOURS, strict=True):
        values = [float(_average(side.means[name])) for name in ("overshoot", "blocking")]
        axes.bar(np.arange(2) + offset, np.nan_to_num(values), 0.27, color=colour)
    axes.set_xticks([0, 1], ["overshoot", "blocks"])


def _average(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


def _statistic(side: DomainStatistics, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return side.means[name], *side.interval(name)
