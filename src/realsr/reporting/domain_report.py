"""Report of a comparison of two sets of photos: domains.json, domains.png and a short table."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from realsr.core.file_names import printable
from realsr.core.files import write_bytes
from realsr.data.folders import join_names
from realsr.domains.comparison import DomainComparison, DomainStatistics, Score
from realsr.domains.edges import DIRECTIONS
from realsr.domains.findings import Finding
from realsr.domains.tile_statistics import FREQUENCIES
from realsr.imaging import write_uint8
from realsr.reporting.domain_figure import draw_domains

MAX_NAMES = 5


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
