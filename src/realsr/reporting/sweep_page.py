"""The table of a sweep's jobs: the keys that differ, scores, time, and the reason of a failure."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from realsr.evaluation.tables import Table
from realsr.reporting.pages import Block, Facts, PageTable, Paragraph, Plots, Section
from realsr.reporting.run_records import read_metrics
from realsr.reporting.score_page import arrow, format_score
from realsr.reporting.svg_plots import plot_intervals
from realsr.reporting.sweep_records import Job

PREFERENCE = ("best", "generator_ema", "generator")
"""Weights of a run, in the order in which a sweep's table chooses them."""


def tabulate_jobs(jobs: Sequence[Job]) -> Table:
    """Return a table of the jobs, with the scores of the best weights of each.

    A job without result has the reason in the last column.
    """
    keys = list(dict.fromkeys(key for job in jobs for key in job.values()))
    keys = [key for key in keys if len({job.values().get(key) for job in jobs}) > 1]
    scores = {job.number: _read_scores(job) for job in jobs}
    metrics = list(dict.fromkeys(name for _, row in scores.values() for name in row))
    rows = []
    for job in jobs:
        weights, row = scores[job.number]
        cells = [str(job.number), *(job.values().get(key, "—") for key in keys)]
        cells += [format_score(name, row[name]) if name in row else "—" for name in metrics]
        time = "—" if job.seconds is None else str(timedelta(seconds=round(job.seconds)))
        rows.append([*cells, weights or "—", time, _state(job)])
    head = ["job", *keys, *map(arrow, metrics), "weights", "time", "state"]
    failures = sum(job.error is not None for job in jobs)
    title = f"{len(jobs)} jobs, {failures} failed"
    return Table(title, head, rows)


def _state(job: Job) -> str:
    if job.error is not None:
        return f"failed: {job.error}"
    return "complete" if job.seconds is not None else "not ended: repeat the command"


def _read_scores(job: Job) -> tuple[str, Mapping[str, Any]]:
    """Return the name and the mean scores of the preferred weights; empty if there are none."""
    if job.result is None or job.error is not None:
        return "", {}
    models = read_metrics(job.result / "metrics.json").get("models", {})
    name = next((name for name in PREFERENCE if name in models), next(reversed(models), ""))
    return (name, models[name]["mean"]) if name else ("", {})


def make_sweep_sections(folder: Path, jobs: Sequence[Job]) -> list[Section]:
    """Return the sections of a page about a sweep."""
    table = tabulate_jobs(jobs)
    common = {
        key: value
        for key, value in jobs[0].values().items()
        if all(job.values().get(key) == value for job in jobs)
    }
    blocks: list[Block] = [PageTable(table.title, table.head, table.rows)]
    if any(_read_scores(job)[1] for job in jobs):
        text = "Scores are those of each job's own validation images. They are comparable if all "
        blocks.append(Paragraph(f"{text}jobs use the same images (data.validation)."))
    results = {f"job {job.number}": str(job.result or "—") for job in jobs}
    return [
        Section("jobs", "Jobs", blocks),
        Section("scores", "Scores", _plot(jobs)),
        Section("keys", "Common keys", [Facts(common)] if common else []),
        Section("folders", "Folders", [Facts({"sweep": str(folder)} | results)]),
    ]


def _plot(jobs: Sequence[Job]) -> list[Block]:
    scores = {f"job {job.number}": _read_scores(job)[1] for job in jobs}
    plots = []
    for name in list(dict.fromkeys(name for row in scores.values() for name in row))[:4]:
        rows = {job: row[name] for job, row in scores.items() if row.get(name) is not None}
        if rows:
            values = list(rows.values())
            plots.append(plot_intervals(arrow(name), list(rows), values, [None] * len(rows)))
    return [Plots(plots)] if plots else []
