"""Sections of a page about a run: summary, comparison, scores, curves, configuration, versions."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import numpy as np

from realsr.core.components import flatten, format_value
from realsr.imaging import ImageError, read_uint8
from realsr.pools.pool_statistics import PoolStatistics
from realsr.reporting.chain import make_chain_sections
from realsr.reporting.drawing import choose_evenly
from realsr.reporting.pages import (
    Block,
    Details,
    Facts,
    PageTable,
    Paragraph,
    Plots,
    Section,
    compare,
)
from realsr.reporting.run_records import RunRecords
from realsr.reporting.score_page import ABSENT, MAX_IMAGES, make_score_blocks
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
    versions = run.training.get("versions") or run.metrics.get("versions") or {}
    versions = {name: str(version) for name, version in versions.items()}
    return [
        Section("summary", "Summary", [Facts(summarise(run))]),
        Section("comparison", "Comparison", compare_samples(run)),
        Section("scores", "Scores", scores),
        Section("curves", "Curves", plot_curves(run)),
        *make_chain_sections(run, pool),
        Section("configuration", "Configuration", show_config(run.config, defaults)),
        Section("versions", "Versions", [Facts(versions)] if versions else []),
    ]


def summarise(run: RunRecords) -> dict[str, str]:
    """Return facts about a run: recipe, progress, data, time and memory."""
    config, training, scalars = run.config, run.training, run.scalars
    inputs, notes = training.get("inputs", {}), training.get("notes", {})
    pairs = sum(name.startswith("HR/") for name in inputs)
    patches = sum(name.startswith("noise/") for name in inputs)
    complete = "complete" if training.get("complete") else "not complete"
    facts = {
        "run": str(run.folder),
        "track": str(config.get("track")),
        "scale": f"x{run.scale}",
        "seed": str(config.get("seed")),
        "steps": f"{run.steps} of {run.value('trainer.max_steps')}, {complete}",
        "pairs": f"{pairs}, and {patches} noise patches",
        "initial weights": str(config.get("init") or "none"),
        "generator": str(run.value("generator.name")),
    }
    if config.get("from_run"):
        facts["repeats the run"] = str(config["from_run"])
    if "threads" in notes:
        facts["threads"] = str(notes["threads"])
    if "speed/images_per_second" in scalars:
        steps, speeds = scalars["speed/images_per_second"]
        batch = run.value("trainer.batch") or 1
        seconds = float((np.diff(steps, prepend=0) * batch / speeds).sum())
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
    for folder in choose_evenly(folders, MAX_IMAGES):
        files = sorted(folder.glob("step_*.png"))
        if not files:
            continue
        try:
            strip = read_uint8(files[-1])
        except ImageError as error:
            blocks.append(Paragraph(str(error)))
            continue
        views = dict(zip(VIEWS, np.split(strip, len(VIEWS), axis=1), strict=True))
        step = int(files[-1].stem.removeprefix("step_"))
        blocks.append(compare(folder.name, views, ("bicubic", "SR"), f"Step {step}.", run.scale))
    if blocks:
        blocks.insert(0, Paragraph("Validation images by the weights of the last validation."))
    return blocks


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
            title, is_rate = group.replace("_", " ").capitalize(), group == "learning_rate"
            more.append(plot_lines(title, lines, "step", logarithmic=is_rate))
    details = [Details("More curves", [Plots(more)])] if more else []
    return [*([Plots(plots)] if plots else []), *details]


def show_config(config: Mapping[str, Any], defaults: Mapping[str, Any] | None) -> list[Block]:
    """Return the keys that differ from the defaults of the track, and the whole configuration."""
    values = flatten(config)
    rows = [[key, format_value(value)] for key, value in values.items()]
    whole = Details("All keys", [PageTable("All keys", ["key", "value"], rows)])
    if defaults is None:
        text = f"The track {config.get('track')} is not installed, so its defaults are unknown."
        return [Paragraph(text), whole]
    base = flatten(defaults)
    differences = [
        [key, format_value(values.get(key, ABSENT)), format_value(base.get(key, ABSENT))]
        for key in dict.fromkeys([*values, *base])
        if values.get(key, ABSENT) != base.get(key, ABSENT)
        and (key in values or base[key] is not None)  # null: a key that was added later
    ]
    if not differences:
        return [Paragraph(f"All keys have the defaults of the track {config.get('track')}."), whole]
    title = f"Keys that differ from the defaults of the track {config.get('track')}"
    return [PageTable(title, ["key", "this run", "default"], differences), whole]
