"""Pages about runs, sweeps, pools and evaluations; the arrays of a pool."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from realsr.config.composition import load_config, takes_keys, to_tree
from realsr.config.schema import ReportConfig
from realsr.core.errors import UserError
from realsr.core.file_names import printable
from realsr.core.files import check_folder_place
from realsr.imaging import read_uint8
from realsr.imaging.kernel_shapes import load_kernel
from realsr.pools.contents import list_kernels, list_noise
from realsr.pools.pool_statistics import PoolStatistics, measure_pool
from realsr.reporting.pages import Section, write_page
from realsr.reporting.pool_page import format_pools, make_pool_sections
from realsr.reporting.run_page import make_run_sections
from realsr.reporting.run_records import RunRecords, read_metrics, read_run
from realsr.reporting.score_page import make_evaluation_sections
from realsr.reporting.sweep_page import make_sweep_sections, read_sweep, tabulate_jobs

logger = logging.getLogger("realsr")


@dataclass(frozen=True)
class Pool:
    """A pool's folder, with access to its kernels and noise patches as arrays."""

    folder: str | Path

    def kernels(self, scale: int) -> dict[str, np.ndarray]:
        """Return the kernels for a scale by file name, each (h, w), summing to 1."""
        return {path.name: load_kernel(path) for path in list_kernels(Path(self.folder), scale)}

    def noise(self) -> dict[str, np.ndarray]:
        """Return the noise patches by file name, each (h, w, 3) uint8, content included."""
        return {path.name: read_uint8(path) for path in list_noise(Path(self.folder))}


@takes_keys("report")
def report(config: ReportConfig) -> Path:
    """Write a page about a run, a sweep, a pool or an evaluation, and return its path.

    The tables of a sweep and of pools are also logged.

    Raises UserError if the folder holds no such results; if files of a pool cannot be read, at the
    end.
    """
    [(key, folder)] = config.folders.items()
    if not folder.is_dir():
        raise UserError(f"{key}={folder}: no such folder")
    output = config.output or folder / "report.html"
    check_folder_place("output", output.parent)
    unreadable: list[str] = []
    if config.run is not None:
        title, sections = f"Run {folder.resolve().name}", describe_run(folder)
    elif config.sweep is not None:
        jobs = read_sweep(folder)
        logger.info("\n%s", tabulate_jobs(jobs).as_text())
        title, sections = "Sweep", make_sweep_sections(folder, jobs)
    elif config.pool_dir is not None:
        pools = [measure_pool(pool) for pool in (folder, config.compare) if pool is not None]
        logger.info("\n%s", format_pools(pools))
        title = "Degradation pool" if len(pools) == 1 else "Comparison of degradation pools"
        sections = make_pool_sections(pools)
        unreadable = [reason for pool in pools for reason in pool.unreadable]
    else:
        metrics = read_metrics(folder / "metrics.json")
        if not metrics:
            raise UserError(
                f"evaluation={folder}: has no metrics.json: set the output of a realsr.evaluate"
            )
        title = f"Evaluation {folder.resolve().name}"
        sections = make_evaluation_sections(folder, metrics)
    write_page(output, printable(title), printable(folder), sections)
    logger.info("\nreport   %s", output)
    if reasons := "".join(f"\n  {reason}" for reason in unreadable):
        raise UserError(f"skipped because unreadable:{reasons}")
    return output


def describe_run(folder: Path) -> list[Section]:
    """Return the sections of a page about a run. Raises UserError if the folder is not a run."""
    run = read_run(folder)
    return make_run_sections(run, _load_defaults(run), _measure_run_pool(run))


def _load_defaults(run: RunRecords) -> Mapping[str, Any] | None:
    """Return the configuration of the run's track with its work_dir; None for another track."""
    config = run.config
    values = {key: str(config[key]) for key in ("track", "work_dir") if config.get(key)}
    try:
        return to_tree(load_config("train", **values))
    except UserError:
        return None


def _measure_run_pool(run: RunRecords) -> PoolStatistics | None:
    """Return the statistics of the run's pool, None if it is missing or not used."""
    if (folder := run.place("pool_dir")) is None:
        return None
    try:
        return measure_pool(folder)
    except UserError:
        return None
