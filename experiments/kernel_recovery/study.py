"""Estimate the kernels of photos that were degraded by known kernels.

    python experiments/kernel_recovery/study.py --set report --estimators kernelgan,spectral --seeds 5 \
        --records work/recovery.jsonl --json work/recovery.json

Each finished estimate is a line of the records, so that a killed run goes on where it stopped, and a run that asks for
more (kernels, seeds, an estimator) computes what is missing. The JSON sums the records up and the table in Markdown
is printed. README.md has the protocol and the results.
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from cases import BORDER, SCALES, SETS, Case, degrade_photo, list_cases
from table import summarise, write_table

from realsr import api
from realsr.core.files import write_bytes
from realsr.core.progress import Progress
from realsr.core.seeding import derive_seed
from realsr.imaging.kernel_shapes import Kernel, postprocess
from realsr.kernels.kernelgan import average, prepare_photo
from realsr.kernels.kernelgan_training import KernelGANConfig, train_kernelgans
from realsr.kernels.spectral import Spectral, fit_photo

ESTIMATORS = ("spectral", "kernelgan", "kernelgan_steady")
SPECTRAL = Spectral(
    border=BORDER,
    exponent=2.7,
    exponent_weight=16.0,
    width=1.5,
    width_weight=3.0,
    noise_weight=1.0,
    workers=0,
)
Task = tuple[Case, str, int]


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    estimators = options.estimators.split(",")
    if unknown := set(estimators) - set(ESTIMATORS):
        raise SystemExit(
            f"--estimators: no {', '.join(sorted(unknown))}; there are {', '.join(ESTIMATORS)}"
        )
    photos = options.photos.split(",") if options.photos else SETS[options.set]
    scales = [int(scale) for scale in options.scales.split(",")]
    tasks = list(
        list_tasks(photos, estimators, options.kernels, options.gan_kernels, options.seeds, scales)
    )
    run(tasks, options.records, load_forms(options.iterations), options.batch)
    if options.json:
        keys = {_key(task) for task in tasks}
        records = [
            record for record in read_records(options.records) if _key(_task(record)) in keys
        ]
        summary = summarise(records, options.set)
        write_bytes(options.json, json.dumps(summary, indent=1).encode())
        print(write_table(summary))


def list_tasks(
    photos: Sequence[str],
    estimators: Sequence[str],
    kernels: int,
    gan_kernels: int,
    seeds: int,
    scales: Sequence[int] = SCALES,
) -> Iterator[Task]:
    """List tasks (case, estimator, seed); the spectral estimator is deterministic: seed 0."""
    if "spectral" in estimators:
        yield from ((case, "spectral", 0) for case in list_cases(photos, kernels, scales))
    for name in ("kernelgan", "kernelgan_steady"):
        for scale in scales if name in estimators else ():
            for seed in range(seeds):
                for case in list_cases(photos, gan_kernels, [scale]):
                    yield case, name, seed


@dataclass(frozen=True)
class Form:
    """A form of KernelGAN; seeds: trainings of one estimate, which is the mean of their kernels."""

    config: KernelGANConfig
    seeds: int


def load_forms(iterations: int | None) -> dict[str, Form]:
    """Return the forms of conf/kernels; iterations: limit, for a trial."""
    forms = {}
    for name in ("kernelgan", "kernelgan_steady"):
        values = api.load_config("estimate_kernels", ["+track=dped", f"kernels={name}"]).kernels
        start = values["average_from"]
        count = min(iterations or values["iterations"], values["iterations"])
        config = KernelGANConfig(
            count,
            values["learning_rate"],
            BORDER,
            average_from=start and min(start, count - 1),
            gan_after_start=values["gan_after_start"],
        )
        forms[name] = Form(config, values["seeds"])
    return forms


def run(tasks: Sequence[Task], records: Path, forms: Mapping[str, Form], batch: int) -> None:
    """Append missing estimates to the records; KernelGAN is trained in batches of `batch`."""
    _drop_cut_line(records)
    finished_keys = {_key(_task(record)) for record in read_records(records)}
    todo = [task for task in tasks if _key(task) not in finished_keys]
    records.parent.mkdir(parents=True, exist_ok=True)
    with Progress("kernel recovery", total=len(tasks), done=len(tasks) - len(todo)) as progress:
        for name, group in groupby(todo, key=lambda task: task[1]):
            members = list(group)
            size = max(1, batch // forms[name].seeds) if name in forms else 1
            for start in range(0, len(members), size):
                chunk = members[start : start + size]
                began = time.perf_counter()
                kernels = (
                    _kernelgan(chunk, forms[name]) if name in forms else [_spectral(chunk[0][0])]
                )
                seconds = (time.perf_counter() - began) / len(chunk)
                with records.open("a") as file:
                    file.writelines(
                        _line(*pair, seconds) for pair in zip(chunk, kernels, strict=True)
                    )
                progress.advance(len(chunk))


def read_records(path: Path) -> list[dict]:
    """Read the records without a truncated last line."""
    return (
        [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] if path.exists() else []
    )


def _drop_cut_line(records: Path) -> None:
    content = records.read_bytes() if records.exists() else b"\n"
    if not content.endswith(b"\n"):
        write_bytes(records, content[: content.rfind(b"\n") + 1])


def _kernelgan(tasks: Sequence[Task], form: Form) -> list[Kernel]:
    seeds = [
        [
            derive_seed(seed, "kernel_recovery", *asdict(case).values(), *([run] if run else []))
            for run in range(form.seeds)
        ]
        for case, _, seed in tasks
    ]
    photos = [
        photo
        for task, runs in zip(tasks, seeds, strict=True)
        for photo in prepare_photo(degrade_photo(task[0]), form.config, runs)
    ]
    raws = train_kernelgans(photos, form.config, [seed for runs in seeds for seed in runs]).kernels
    groups = [raws[i : i + form.seeds] for i in range(0, len(raws), form.seeds)]
    return [average([postprocess(raw) for raw in group]) for group in groups]


def _spectral(case: Case) -> Kernel:
    return fit_photo(degrade_photo(case), SPECTRAL).kernel(2)


def _key(task: Task) -> tuple:
    case, estimator, seed = task
    return case, estimator, seed


def _task(record: dict) -> Task:
    case = Case(*(record[name] for name in ("photo", "kernel", "scale", "noise")))
    return case, record["estimator"], record["seed"]


def _line(task: Task, estimate: Kernel, seconds: float) -> str:
    case, estimator, seed = task
    facts = asdict(case) | {"estimator": estimator, "seed": seed, "seconds": round(seconds, 3)}
    return json.dumps(facts | {"estimate": np.round(estimate, 7).tolist()}) + "\n"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", choices=SETS, default="report", help="photos to take")
    parser.add_argument("--photos", help="names of scikit-image's photographs instead, by commas")
    parser.add_argument(
        "--estimators", default=",".join(ESTIMATORS), help="by commas (default: %(default)s)"
    )
    parser.add_argument(
        "--scales", default=",".join(map(str, SCALES)), help="by commas (default: %(default)s)"
    )
    parser.add_argument(
        "--kernels", type=int, default=5, help="kernels a photo for the spectral estimator"
    )
    parser.add_argument("--gan-kernels", type=int, default=1, help="kernels a photo for KernelGAN")
    parser.add_argument("--seeds", type=int, default=5, help="KernelGAN's runs a case")
    parser.add_argument("--iterations", type=int, help="at most so many of KernelGAN, for a trial")
    parser.add_argument(
        "--batch", type=int, default=8, help="KernelGANs trained side by side; changes no number"
    )
    parser.add_argument(
        "--records", type=Path, default=Path("work/kernel_recovery.jsonl"), help="estimates so far"
    )
    parser.add_argument(
        "--json", type=Path, help="where the summary goes; the table is printed with it"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
