"""Report of a comparison of two sets of photos: domains.json, domains.png and a short table."""

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from realsr.core.file_names import printable
from realsr.core.files import write_bytes
from realsr.data.folders import join_names
from realsr.domains.comparison import DomainComparison, DomainStatistics, Score
from realsr.domains.edges import DIRECTIONS
from realsr.domains.findings import Finding
from realsr.domains.tile_statistics import FREQUENCIES, LAGS, LEVEL_BINS
from realsr.imaging import write_uint8
from realsr.reporting.drawing import FAINT, FRAME, INK, Page, shorten, stack

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_NAMES = 5
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


def report_domains(result: DomainComparison, folder: Path) -> str:
    """Write `domains.json` and `domains.png` in a folder; return a table with the summary."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = json.dumps(describe_domains(result), indent=1)
    write_bytes(folder / "domains.json", facts.encode())
    write_uint8(folder / "domains.png", draw_domains(result))
    files = f"figure   {folder / 'domains.png'}\nnumbers  {folder / 'domains.json'}"
    return f"{format_domains(result)}\n{files}"


def format_domains(result: DomainComparison) -> str:
    """Return a table of all quantities, the largest clear difference first, and the summary."""
    lines = []
    for letter, side in (("a", result.a), ("b", result.b)):
        lines.append(f"{letter}  {printable(side.folder)}: {len(side.names)} photos")
        for text, names in (
            ("without measurable noise", side.without_noise),
            ("without measurable detail", side.without_detail),
            ("noise left out, more than twice that of the others (texture)", side.textured),
        ):
            if names:
                lines.append(f"   {text}: {join_names(names, MAX_NAMES)}")
        for tables, count in side.jpeg[:2]:
            subsampling = "gray" if tables.subsampling == "gray" else f"{tables.subsampling} colour"
            lines.append(f"   JPEG, quality about {tables.quality}, {subsampling}: {count} photos")
    lines.append(f"\n  {'':56} {'a':>16} {'b':>16} {'in steps':>9}")
    lines += [_row(finding) for finding in result.findings]
    lines.append("  * clear: one step or more, and its 95 % interval over photos is beyond 0\n")
    if result.halves is not None:
        lines.append(
            f"classifier between two halves of a: {_format(result.halves)} (0.5: indistinguishable)"
        )
    lines += [
        f"classifier between a and b: {_format(result.accuracy)}",
        f"kernel distance: {_format(result.distance)} (0: equal, 1: far)",
    ]
    if result.overlap < 0.2:
        lines.append(
            f"only {100 * result.overlap:.0f} % of patches have counterparts of the same brightness "
            "and contrast: use photos of more similar content"
        )
    return "\n".join([*lines, f"\n{result.summarise()}"])


def _row(finding: Finding) -> str:
    quantity = finding.quantity
    label = f"{quantity.label}, {quantity.unit}" if quantity.unit else quantity.label
    cells = []
    for value, (low, high) in ((finding.a, finding.a_interval), (finding.b, finding.b_interval)):
        cells.append(f"{value:.2f} ±{(high - low) / 2:.2f}" if np.isfinite(low) else f"{value:.2f}")
    mark = "*" if finding.is_clear else " "
    return f"{mark} {label:56} {cells[0]:>16} {cells[1]:>16} {finding.difference:+9.1f}"


def _format(score: Score) -> str:
    return f"{score.value:.2f} ({score.low:.2f} to {score.high:.2f})"


def describe_domains(result: DomainComparison) -> dict[str, Any]:
    """Return the comparison for JSON; unknown numbers are null."""
    return {
        "summary": result.summarise(),
        "accuracy": _clean(vars(result.accuracy)),
        "kernel_distance": _clean(vars(result.distance)),
        "accuracy_halves_of_a": _clean(vars(result.halves)) if result.halves else None,
        "overlap": _clean(result.overlap),
        "frequencies": FREQUENCIES.tolist(),
        "edge_directions": DIRECTIONS,
        "quantities": {
            finding.quantity.name: _clean(
                {
                    "unit": finding.quantity.unit,
                    "a": finding.a,
                    "a_interval": finding.a_interval,
                    "b": finding.b,
                    "b_interval": finding.b_interval,
                    "difference_in_steps": finding.difference,
                    "interval": finding.interval,
                    "clear": finding.is_clear,
                    "advice": finding.advice,
                }
            )
            for finding in result.findings
        },
        "a": _describe(result.a),
        "b": _describe(result.b),
    }


def _describe(side: DomainStatistics) -> dict[str, Any]:
    statistics = {}
    for name, means in side.means.items():
        low, high = side.interval(name)
        statistics[name] = {"mean": _clean(means), "low": _clean(low), "high": _clean(high)}
    return {
        "folder": str(side.folder),
        "photos": side.names,
        "failures": side.failures,
        "without_noise": side.without_noise,
        "without_detail": side.without_detail,
        "textured": side.textured,
        "jpeg": [
            {
                "photos": count,
                "quality": tables.quality,
                "subsampling": tables.subsampling,
                "tables": tables.tables,
            }
            for tables, count in side.jpeg
        ],
        "statistics": statistics,
    }


def _clean(value: Any) -> Any:
    """Return a value for JSON, with null for numbers that are not finite."""
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _clean(value.tolist())
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    if isinstance(value, float):
        return round(value, 5) if np.isfinite(value) else None
    return value


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
    left, middle, right = 40, 425, 810
    _draw_scale(page.plot(60, 190, 300, 40, "Share of patches told apart"), result)
    _draw_differences(page.plot(240, 300, 300, 270, "Difference b - a, in steps"), result)
    noise = page.plot(middle + 180, 190, 340, HEIGHT, "Noise level by brightness (green)")
    _draw_curves(noise, result, "noise_level", (1,), (np.arange(LEVEL_BINS) + 0.5) * 32)
    noise.set(xlim=(0, 256), ylim=(0, None), xlabel="brightness, levels")
    grain = page.plot(middle + 180 + 390, 190, 165, HEIGHT, "Correlation of noise")
    _draw_curves(grain, result, "noise_autocorrelation", (1, 1), np.arange(1, LAGS + 1))
    grain.set(xlim=(1, LAGS), ylim=(-0.2, 1), xlabel="shift to the right, pixels")
    widths = page.plot(middle + 180, 440, 340, 130, "Width of the sharpest edges, pixels (green)")
    _draw_groups(widths, result, "edge_width", [name.replace(" ", "\n") for name in DIRECTIONS])
    over = page.plot(middle + 180 + 390, 440, 165, 130, "Overshoot, blocks")
    _draw_small(over, result)
    for name, title, place in (
        ("detail_spectrum", "Detailed regions: power in dB", left),
        ("flat_spectrum", "Flat regions: power in dB", middle),
    ):
        axes = page.plot(place, 660, SIDE, 300, title)
        _draw_curves(axes, result, name, (1,), FREQUENCIES)
        axes.set(xlim=(0.06, 0.5), xlabel="cycles per pixel")
    direction = page.plot(right, 660, SIDE, 300, "Fine detail by direction, dB of its mean")
    _draw_groups(direction, result, "detail_direction", ["0°", "45°", "90°", "135°"])
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


def _draw_groups(axes: "Axes", result: DomainComparison, name: str, labels: Sequence[str]) -> None:
    """Draw a statistic of green of both sets as pairs of bars with intervals."""
    x = np.arange(len(labels))
    for offset, side, colour in zip((-0.15, 0.15), (result.a, result.b), COLOURS, strict=True):
        mean, low, high = (values[1] for values in _statistic(side, name))
        axes.bar(x + offset, np.nan_to_num(mean), 0.27, color=colour)
        axes.vlines(x + offset, low, high, color=INK, linewidth=1)
    axes.set_xticks(x, labels)


def _draw_small(axes: "Axes", result: DomainComparison) -> None:
    """Draw overshoot and blocking, means over channels."""
    for offset, side, colour in zip((-0.15, 0.15), (result.a, result.b), COLOURS, strict=True):
        values = (side.means[name] for name in ("overshoot", "blocking"))
        means = [x[np.isfinite(x)].mean() if np.isfinite(x).any() else 0 for x in values]
        axes.bar(np.arange(2) + offset, means, 0.27, color=colour)
    axes.set_xticks([0, 1], ["overshoot", "blocks"])


def _statistic(side: DomainStatistics, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return side.means[name], *side.interval(name)
