"""Sections of a page about a run: summary, comparison, scores, curves, configuration, versions."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import numpy as np

from realsr.imaging import ImageError, read_uint8
from realsr.pools.pool_statistics import PoolStatistics
from realsr.reporting.chain import make_chain_sections
from realsr.reporting.drawing import choose_evenly
from realsr.reporting.pages import (
    Block,
    Comparison,
    Details,
    Facts,
    PageTable,
    Paragraph,
    Plot,
    Plots,
    Section,
    embed,
)
from realsr.reporting.run_records import RunRecords
from realsr.reporting.score_page import ABSENT, CROP, MAX_IMAGES, make_score_blocks
from realsr.reporting.svg_plots import Line, plot_lines

VIEWS = ("LR", "bicubic", "SR", "HR")  # of a sample, see realsr.training.validation.make_strip


def make_run_sections(
    run: RunRecords, defaults: Mapping[str, Any] | None, pool: PoolStatistics | None
) -> list[Section]:
    """Return the sections of a run's page.

    defaults: the configuration of the run's track with the same work_dir, None if the track is
    unknown. pool: statistics of the run's pool, None if it is missing.
    """
    scores = make_score_blocks(run.metrics) if run.metrics else []
    return [
        Section("summary", "Summary", [Facts(summarise(run))]),
        Section("comparison", "Comparison", compare_samples(run)),
        Section("scores", "Scores", scores),
        Section("curves", "Curves", plot_curves(run)),
        *make_chain_sections(run, pool),
        Section("configuration", "Configuration", show_config(run.config, defaults)),
        Section("versions", "Versions", _show_versions(run)),
    ]


def summarise(run: RunRecords) -> dict[str, str]:
    """Return facts about a run: recipe, progress, data, time and memory."""
    config, training, scalars = run.config, run.training, run.scalars
    trainer = config.get("trainer") or {}
    inputs, notes = training.get("inputs", {}), training.get("notes", {})
    pairs = sum(name.startswith("HR/") for name in inputs)
    patches = sum(name.startswith("noise/") for name in inputs)
    complete = "complete" if training.get("complete") else "not complete"
    facts = {
        "run": str(run.folder),
        "track": str(config.get("track")),
        "scale": f"x{config.get('scale')}",
        "seed": str(config.get("seed")),
        "steps": f"{run.steps} of {trainer.get('max_steps')}, {complete}",
        "pairs": f"{pairs}, and {patches} noise patches",
        "initial weights": str(config.get("init") or "none"),
        "generator": str((config.get("generator") or {}).get("name")),
    }
    if config.get("from_run"):
        facts["repeats the run"] = str(config["from_run"])
    if "threads" in notes:
        facts["threads"] = str(notes["threads"])
    if "speed/images_per_second" in scalars:
        steps, speeds = scalars["speed/images_per_second"]
        seconds = float((np.diff(steps, prepend=0) * trainer.get("batch", 1) / speeds).sum())
        facts["training time"] = f"{timedelta(seconds=round(seconds))}, without validation"
        facts["speed"] = f"{np.median(speeds):.1f} images per second (median)"
    for tag, name in (("memory/process_gb", "memory"), ("memory/gpu_gb", "memory of the GPU")):
        if tag in scalars:
            facts[name] = f"{scalars[tag][1].max():.2f} GB (peak)"
    return facts


def compare_samples(run: RunRecords) -> list[Block]:
    """Return a comparison of LR, bicubic, SR and HR for the last sample of each image."""
    blocks: list[Block] = []
    folders = sorted(path for path in (run.folder / "samples").glob("*") if path.is_dir())
    scale = int(run.config.get("scale", 1))
    for folder in choose_evenly(folders, MAX_IMAGES):
        files = sorted(folder.glob("step_*.png"))
        if not files:
            continue
        try:
            strip = read_uint8(files[-1])
        except ImageError as error:
            blocks.append(Paragraph(str(error)))
            continue
        step = int(files[-1].stem.removeprefix("step_"))
        blocks.append(compare_views(folder.name, split_strip(strip), scale, f"Step {step}."))
    if blocks:
        blocks.insert(0, Paragraph("Validation images by the weights of the last validation."))
    return blocks


def split_strip(strip: np.ndarray) -> dict[str, np.ndarray]:
    """Return LR (enlarged by repeating pixels), bicubic, SR and HR of a sample (H, 4 W, 3)."""
    return dict(zip(VIEWS, np.split(strip, len(VIEWS), axis=1), strict=True))


def compare_views(
    name: str, views: Mapping[str, np.ndarray], scale: int, note: str = ""
) -> Comparison:
    """Return a comparison of the centre of views (H, W, 3) uint8 of one size.

    The view `LR` is stored at its own size, every `scale`-th pixel.
    """
    pictures = {}
    for title, pixels in views.items():
        side = CROP // scale * scale
        top, left = ((max(0, n - side) // 2) // scale * scale for n in pixels.shape[:2])
        crop = pixels[top : top + side, left : left + side]
        alt = f"{title} of {name}"
        if title == "LR":
            crop = np.ascontiguousarray(crop[::scale, ::scale])
        pictures[title] = embed(crop, alt, pixelated=title == "LR")
    return Comparison(
        name, pictures, "bicubic" if "bicubic" in views else "LR", _result(views), note
    )


def _result(views: Mapping[str, Any]) -> str:
    """Return the title of the result: `SR`, or the last view before HR."""
    titles = [title for title in views if title != "HR"]
    return "SR" if "SR" in views else titles[-1]


def plot_curves(run: RunRecords) -> list[Block]:
    """Return plots of the validation scores, the losses, the learning rate and other scalars."""
    plots, more = [], []
    for name in ("psnr", "ssim", "lpips"):
        lines = [
            Line(title, *run.validation[key])
            for key, title in ((name, "raw weights"), (f"ema_{name}", "averaged weights"))
            if key in run.validation
        ]
        if lines:
            plots.append(plot_lines(f"Validation: {name.upper()}", lines, "step"))
    groups: dict[str, list[Line]] = {}
    for tag, curve in run.scalars.items():
        group, _, name = tag.partition("/")
        groups.setdefault(group, []).append(Line(name or tag, *curve))
    for group, lines in groups.items():
        if group == "loss":
            plots += [plot_lines(f"Loss: {line.name}", [line], "step") for line in lines]
        else:
            more.append(_plot_group(group, lines))
    details = [Details("More curves", [Plots(more)])] if more else []
    return [Plots(plots), *details] if plots else [*details]


def _plot_group(group: str, lines: Sequence[Line]) -> Plot:
    title = group.replace("_", " ").capitalize()
    return plot_lines(title, lines, "step", logarithmic=group == "learning_rate")


def show_config(config: Mapping[str, Any], defaults: Mapping[str, Any] | None) -> list[Block]:
    """Return the keys that differ from the defaults of the track, and the whole configuration."""
    values = flatten(config)
    rows = [[key, _text(value)] for key, value in values.items()]
    whole = Details("All keys", [PageTable("All keys", ["key", "value"], rows)])
    if defaults is None:
        text = f"The track {config.get('track')} is not installed, so its defaults are unknown."
        return [Paragraph(text), whole]
    base = flatten(defaults)
    differences = [
        [key, _text(values.get(key, ABSENT)), _text(base.get(key, ABSENT))]
        for key in dict.fromkeys([*values, *base])
        if values.get(key, ABSENT) != base.get(key, ABSENT)
        and (key in values or base[key] is not None)  # null: a key that was added later
    ]
    if not differences:
        return [Paragraph(f"All keys have the defaults of the track {config.get('track')}."), whole]
    title = f"Keys that differ from the defaults of the track {config.get('track')}"
    return [PageTable(title, ["key", "this run", "default"], differences), whole]


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested keys by their full names, such as `trainer.batch`."""
    keys: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            keys |= flatten(value, f"{prefix}{name}.")
        else:
            keys[f"{prefix}{name}"] = value
    return keys


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value) if not isinstance(value, list) else f"[{', '.join(map(_text, value))}]"


def _show_versions(run: RunRecords) -> list[Block]:
    versions = run.training.get("versions") or run.metrics.get("versions") or {}
    return [Facts({name: str(version) for name, version in versions.items()})] if versions else []
