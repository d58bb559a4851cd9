"""Measure the cost of durability in a power cut: the same work with and without `os.fsync`.

Two tasks are measured: making pairs (`make_pairs` with worker processes, hashes and manifest), and
saving a checkpoint of a full-size training (16.7 million parameters of RRDB, patch discriminator,
averaged weights, Adam). A checkpoint has two times: how long training waits, while
`CheckpointWriter` writes in the background, and how long until it is on disk. Without `os.fsync`
both are the time of a synchronous write. The two forms take turns. The disk is idle before each
(`os.sync`). Times are medians over rounds.

    python experiments/benchmarks/durability.py FOLDER [--workers N] [--copies N] [--rounds N]
        [--blocks N] [--work DIR] [--json FILE]

FOLDER has source photos; `--work` is on the disk to measure. The last two lines are the times with
`os.fsync` relative to those without.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from common import link_photos, make_parser, report

from realsr.config.composition import extract_part, load_config
from realsr.pairs.synthesis import make_pairs
from realsr.training.checkpoints import CheckpointWriter
from realsr.training.settings import TrainingConfig
from realsr.training.state import TrainState, make_state


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("folder", type=Path, help="source photos")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--copies", type=int, default=4, help="how often each photo is measured in a round"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--blocks", type=int, default=23, help="of the generator in the checkpoint")
    parser.add_argument("--work", type=Path, help="folder on the disk to measure")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as name:
        work = Path(name)
        results = measure_pairs(
            work, options.folder, options.workers, options.copies, options.rounds
        )
        results |= measure_checkpoints(work, options.blocks, options.rounds)
    ratios = {f"ratio_{kind}": results[f"{kind}_ratio"] for kind in ("pairs", "checkpoint")}
    report(results | ratios, options.json)


def measure_pairs(
    work: Path, folder: Path, workers: int, copies: int, rounds: int
) -> dict[str, Any]:
    """Return pairs per second in both forms, and the ratio of their times."""
    count = len(link_photos(folder, work / "photos", copies))
    config = load_config("make_pairs", track="dped").pairs

    def make(number: int) -> None:
        folders = work / "photos", None, None, work / f"pairs{number}"
        make_pairs(*folders, config, 4, 0, False, workers, "refuse")

    with_fsync, plain = compare(make, rounds)
    return {
        "pairs": count,
        "workers": workers,
        "pairs_per_second_synced": round(count / with_fsync, 3),
        "pairs_per_second_not_synced": round(count / plain, 3),
        "pairs_ratio": round(with_fsync / plain, 3),
    }


def measure_checkpoints(work: Path, blocks: int, rounds: int) -> dict[str, Any]:
    """Return the seconds of a checkpoint in both forms, and the ratio of the waiting times."""
    parts = make_trained_parts(blocks)
    waits: list[float] = []
    (work / "run").mkdir()

    def save(number: int) -> None:
        with CheckpointWriter(work / "run/checkpoints", keep=2) as writer:
            start = time.perf_counter()
            writer.save({"step": number, **parts.state_dict()})
            waits.append(time.perf_counter() - start)

    with_fsync, plain = compare(save, rounds)
    wait = statistics.median(waits[1::2])
    [*_, newest] = sorted((work / "run/checkpoints").iterdir())
    return {
        "checkpoint_megabytes": round(newest.stat().st_size / 1e6, 1),
        "checkpoint_wait_seconds": round(wait, 4),
        "checkpoint_seconds_synced": round(with_fsync, 4),
        "checkpoint_seconds_not_synced": round(plain, 4),
        "checkpoint_ratio": round(wait / plain, 3),
    }


def compare(work: Callable[[int], None], rounds: int) -> tuple[float, float]:
    """Return the median seconds of work(number) with `os.fsync` (odd numbers) and without (even ones)."""
    times: dict[bool, list[float]] = {True: [], False: []}
    work(0)  # warm-up
    for number in range(1, 2 * rounds + 1):
        with_fsync = number % 2 == 1
        os.sync()
        with mock.patch("os.fsync", os.fsync if with_fsync else mock.DEFAULT):
            start = time.perf_counter()
            work(number)
            times[with_fsync].append(time.perf_counter() - start)
    return statistics.median(times[True]), statistics.median(times[False])


def make_trained_parts(blocks: int) -> TrainState:
    """Return the parts of a training whose optimisers have moments for all parameters."""
    recipe = load_config("train", track="df2k")
    config = extract_part(
        recipe,
        TrainingConfig,
        generator={"name": "rrdb", "features": 64, "blocks": blocks, "growth": 32},
        discriminator={"name": "patchgan", "features": 64, "layers": 3},
        loss={"pixel": {"name": "l1", "weight": 0.01}, "gan": {"name": "ragan", "weight": 0.005}},
    )
    parts = make_state(config, torch.device("cpu"))
    for optimiser in parts.optimisers.values():
        for parameter in optimiser.param_groups[0]["params"]:
            parameter.grad = torch.zeros_like(parameter)
        optimiser.step()
    return parts


if __name__ == "__main__":
    main()
