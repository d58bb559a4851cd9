"""A sweep: the records of its jobs, `job_<number>.json` in its folder, their table and page."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path

from realsr.core.errors import UserError
from realsr.core.files import parse_json, write_bytes
from realsr.evaluation.tables import Table
from realsr.reporting.pages import Block, Facts, PageTable, Paragraph, Plots, Section
from realsr.reporting.run_records import read_metrics
from realsr.reporting.score_page import ABSENT, MAX_PLOTS, arrow, format_score
from realsr.reporting.svg_plots import plot_intervals

JOB_FILE = re.compile(r"job_(\d+)\.json")
PREFERENCE = ("best", "generator_ema", "generator")
"""Weights of a run, in the order in which a sweep's table chooses them."""


@dataclass(frozen=True)
class Job:
    """A job of a sweep.

    overrides: `key=value`. result: the folder with its metrics.json, None if it is unknown.
    error: the reason of a failure; None if the job succeeded. seconds: None if it has not ended.
    """

    number: int
    overrides: list[str]
    result: Path | None
    error: str | None
    seconds: float | None

    @cached_property
    def values(self) -> dict[str, str]:
        """The values of the overrides by key, without the quotes of Hydra's grammar."""
        pairs = (override.lstrip("+").partition("=") for override in self.overrides)
        return {key: re.sub(r"^'(.*)'$|\\([{}])", r"\1\2", text) for key, _, text in pairs}

    @cached_property
    def scores(self) -> tuple[str, dict[str, float | None]]:
        """The name and the mean scores of the preferred weights; empty if there are none."""
        if self.result is None or self.error is not None:
            return "", {}
        models = read_metrics(self.result / "metrics.json").get("models", {})
        name = next((name for name in PREFERENCE if name in models), next(reversed(models), ""))
        return (name, models[name]["mean"]) if name else ("", {})

    @property
    def state(self) -> str:
        """Whether the job is complete, and why not."""
        if self.error is not None:
            return f"failed: {self.error}"
        return "complete" if self.seconds is not None else "not ended: repeat the command"


def read_sweep(folder: Path) -> list[Job]:
    """Return the jobs of a sweep, from the `job_<number>.json` in the folder of the sweep.

    Raises UserError if there are none, or if one of them is not a job's record.
    """
    jobs = []
    for file in folder.glob("job_*.json"):
        if match := JOB_FILE.fullmatch(file.name):
            try:
                content = parse_json(file.read_bytes())
                result, seconds = content["result"], content["seconds"]
                jobs.append(
                    Job(
                        int(match[1]),
                        list(map(str, content["overrides"])),
                        None if result is None else Path(result),
                        None if content["error"] is None else str(content["error"]),
                        None if seconds is None else float(seconds),
                    )
                )
            except (ValueError, TypeError, KeyError) as error:
                raise UserError(f"{file}: not the record of a job ({error!r})") from error
    if not jobs:
        raise UserError(
            f"sweep={folder}: has no records of jobs (job_0.json, …): start the sweep with "
            f"-m hydra.sweep.dir={folder}"
        )
    return sorted(jobs, key=lambda job: job.number)


def write_job(folder: Path, job: Job) -> None:
    """Write the record of a job, atomically."""
    content = {
        "overrides": job.overrides,
        "result": None if job.result is None else str(job.result.absolute()),
        "error": job.error,
        "seconds": job.seconds,
    }
    write_bytes(folder / f"job_{job.number}.json", json.dumps(content, indent=1).encode())


def tabulate_jobs(jobs: Sequence[Job]) -> Table:
    """Return a table of the jobs: the keys that differ, the scores of the best weights, the time.

    A job without result has the reason in the last column.
    """
    keys = list(dict.fromkeys(key for job in jobs for key in job.values))
    keys = [key for key in keys if len({job.values.get(key) for job in jobs}) > 1]
    metrics = _list_metrics(jobs)
    rows = []
    for job in jobs:
        weights, scores = job.scores
        cells = [str(job.number), *(job.values.get(key, ABSENT) for key in keys)]
        cells += [format_score(n, scores[n]) if n in scores else ABSENT for n in metrics]
        time = ABSENT if job.seconds is None else str(timedelta(seconds=round(job.seconds)))
        rows.append([*cells, weights or ABSENT, time, job.state])
    head = ["job", *keys, *map(arrow, metrics), "weights", "time", "state"]
    failures = sum(job.error is not None for job in jobs)
    return Table(f"{len(jobs)} jobs, {failures} failed", head, rows)


def make_sweep_sections(folder: Path, jobs: Sequence[Job]) -> list[Section]:
    """Return the sections of a page about a sweep."""
    table = tabulate_jobs(jobs)
    blocks: list[Block] = [PageTable(table.title, table.head, table.rows)]
    if _list_metrics(jobs):
        text = "Scores are those of each job's own validation images. They are comparable if all "
        blocks.append(Paragraph(f"{text}jobs use the same images (data.validation)."))
    common = {
        key: value
        for key, value in jobs[0].values.items()
        if all(job.values.get(key) == value for job in jobs)
    }
    results = {f"job {job.number}": str(job.result or ABSENT) for job in jobs}
    return [
        Section("jobs", "Jobs", blocks),
        Section("scores", "Scores", _plot_scores(jobs)),
        Section("keys", "Common keys", [Facts(common)] if common else []),
        Section("folders", "Folders", [Facts({"sweep": str(folder)} | results)]),
    ]


def _list_metrics(jobs: Sequence[Job]) -> list[str]:
    return list(dict.fromkeys(name for job in jobs for name in job.scores[1]))


def _plot_scores(jobs: Sequence[Job]) -> list[Block]:
    plots = []
    for name in _list_metrics(jobs)[:MAX_PLOTS]:
        values = {f"job {job.number}": job.scores[1].get(name) for job in jobs}
        rows = {job: (value, None) for job, value in values.items() if value is not None}
        if rows:
            plots.append(plot_intervals(arrow(name), rows))
    return [Plots(plots)] if plots else []
