"""Sections of a page about an evaluation: scores with their protocol, intervals and results."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from realsr.evaluation.tables import shorten_names
from realsr.imaging import ImageError, read_uint8
from realsr.reporting.drawing import choose_evenly
from realsr.reporting.pages import (
    Block,
    Card,
    Cards,
    Details,
    Facts,
    PageTable,
    Paragraph,
    Plot,
    Plots,
    Section,
    compare,
    embed,
)
from realsr.reporting.svg_plots import plot_intervals

HIGHER = ("psnr", "ssim", "ms_ssim", "nrqm")
ABSENT = "—"  # in a table's cell
MAX_IMAGES = 6
MAX_FIGURES = 4
MAX_PLOTS = 4


def arrow(metric: str) -> str:
    """Return a metric's name with an arrow towards its better values."""
    return f"{metric} {'↑' if metric.startswith(HIGHER) else '↓'}"


def format_score(metric: str, value: float | None, sign: str = "") -> str:
    """Return a score with 2 decimals for PSNR and 4 for others; null in JSON is infinity."""
    value = math.inf if value is None else value
    return format(value, f"{sign}.{2 if metric.startswith('psnr') else 4}f")


def make_score_blocks(metrics: Mapping[str, Any]) -> list[Block]:
    """Return tables, a plot and the protocol of the content of a metrics.json."""
    models = metrics["models"]
    names = shorten_names(list(models))
    columns = list(dict.fromkeys(name for model in models.values() for name in model["mean"]))
    sets = list(dict.fromkeys(name for model in models.values() for name in model["sets"]))
    rows = []
    for model, content in models.items():
        cells = [_format_mean(content, name) for name in columns]
        cells += [
            format_score(n, content["sets"][n]) if n in content["sets"] else ABSENT for n in sets
        ]
        rows.append([names[model], *cells])
    images = next(iter(models.values()))["images"] if models else {}
    count = "1 image" if len(images) == 1 else f"{len(images)} images"
    title = f"{count}: mean [95 % interval]"
    blocks: list[Block] = [PageTable(title, ["model", *map(arrow, [*columns, *sets])], rows)]
    blocks += _tabulate_differences(models, names, columns)
    if len(models) > 1 and columns:
        blocks.append(Plots([_plot(models, names, column) for column in columns[:MAX_PLOTS]]))
    protocol = metrics["protocol"]
    changes = " ".join(protocol.get("changed", []))
    facts = {
        "protocol": str(protocol.get("name")) + (f", changed: {changes}" if changes else ""),
        "scale": f"x{metrics.get('scale')}",
        "border": f"{protocol.get('crop')} pixels cropped",
        "LR": str(metrics.get("lr") or f"from HR, {protocol.get('lr')}"),
        "arithmetic": f"{metrics.get('precision')} on {metrics.get('device')}",
        "note": str(protocol.get("note", "")),
    }
    blocks.append(Facts(facts))
    per_image = [
        [image, names[model], *(format_score(n, content["images"][image].get(n)) for n in columns)]
        for image in images
        for model, content in models.items()
        if image in content["images"]
    ]
    table = PageTable("Scores of each image", ["image", "model", *columns], per_image)
    blocks.append(Details("Scores of each image", [table]))
    if failures := metrics.get("failed"):
        lines = [f"{name}: {reason}" for name, reason in failures.items()]
        blocks.append(Paragraph(f"{len(lines)} could not be evaluated: {'; '.join(lines)}"))
    return blocks


def _format_mean(content: Mapping[str, Any], name: str) -> str:
    if name not in content["mean"]:
        return ABSENT
    text, interval = format_score(name, content["mean"][name]), content["interval"].get(name)
    ends = ", ".join(format_score(name, end) for end in interval or [])
    return f"{text} [{ends}]" if ends else text


def _tabulate_differences(
    models: Mapping[str, Any], names: Mapping[str, str], columns: Sequence[str]
) -> list[Block]:
    """Return the table of differences from the first model, if there are any."""
    rows, reference = list[list[str]](), ""
    for model, content in models.items():
        for other, differences in (content.get("against") or {}).items():
            reference = names.get(other, other)
            cells = [
                f"{format_score(name, value['mean'], '+')}, better in {value['better']}"
                if (value := differences.get(name)) is not None
                else ABSENT
                for name in columns
            ]
            rows.append([names[model], *cells])
    title = f"Difference from {reference}, image by image: mean, and number of images"
    return [PageTable(title, ["model", *columns], rows)] if rows else []


def _plot(models: Mapping[str, Any], names: Mapping[str, str], metric: str) -> Plot:
    rows = {
        names[model]: (content["mean"][metric], content["interval"].get(metric))
        for model, content in models.items()
        if isinstance(content["mean"].get(metric), int | float)
    }
    return plot_intervals(arrow(metric), rows)


def make_evaluation_sections(folder: Path, metrics: Mapping[str, Any]) -> list[Section]:
    """Return the sections of an evaluation's folder; see `realsr.evaluate`."""
    weights = {
        name: "; ".join(
            f"{file} (SHA-256 {digest[:12]})"
            for file, digest in content.get("weights", {}).get("files", {}).items()
        )
        or "no weights"
        for name, content in metrics["models"].items()
    }
    return [
        Section("comparison", "Comparison", _compare_images(folder / "images")),
        Section("scores", "Scores", make_score_blocks(metrics)),
        Section("figures", "Details", _show_figures(folder / "figures")),
        Section("weights", "Weights", [Facts(weights)]),
        Section("versions", "Versions", [Facts(metrics.get("versions", {}))]),
    ]


def _compare_images(folder: Path) -> list[Block]:
    """Return comparisons of the models' images of `save_images`, for images of all models."""
    models = sorted(path for path in folder.glob("*") if path.is_dir())
    if len(models) < 2:
        return []
    files = [{file.name for file in model.glob("*.png")} for model in models]
    blocks: list[Block] = []
    for name in choose_evenly(sorted(set.intersection(*files)), MAX_IMAGES):
        try:
            results = {model.name: read_uint8(model / name) for model in models}
        except ImageError as error:
            blocks.append(Paragraph(str(error)))
            continue
        sides = models[0].name, models[1].name
        blocks.append(compare(name, results, sides, "Centre of the image."))
    return blocks


def _show_figures(folder: Path) -> list[Block]:
    cards, blocks = [], list[Block]()
    for file in choose_evenly(sorted(folder.glob("*.png")), MAX_FIGURES):
        try:
            pixels = read_uint8(file)
            cards.append(Card(file.stem, [embed(pixels, f"crops of {file.stem} by each model")]))
        except ImageError as error:
            blocks.append(Paragraph(str(error)))
    return [*blocks, *[Cards([card]) for card in cards]]
