"""Compare ways of waiting of OpenMP's threads, alone and beside a program that takes a core.

A thread that waits at the end of an operation spins before it sleeps. If another program takes its
core, all threads spin for a whole time slice of that program. Forms: `spin` (GOMP_SPINCOUNT=10000),
`short` (3000, which `realsr` sets), `sleep` (0), and `one_thread`, which a training takes that starts
beside the competitor. Works: training steps at the demo's sizes, iterations of KernelGAN on two
photos, and upscaling 64x64 with an RRDB of 23 blocks.

    python experiments/benchmarks/busy.py [--rounds 5] [--works training kernels upscaling]
        [--cores 0 1] [--json FILE]

Each form has a process, confined to two cores, and the processes take turns, without and with a
competitor that computes on the same cores. `loss` is the median with the competitor over that
without it. `ratio` is the largest, over works, of the time of the form that `realsr` takes beside the
competitor (training: `one_thread`, else `short`) and the time of `short` without it; the goal is 2.2.
`load` is the load average at the start: on a machine that other programs use, all medians include them.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import make_parser, report

FORMS = {
    "spin": {"GOMP_SPINCOUNT": "10000"},
    "short": {"GOMP_SPINCOUNT": "3000"},
    "sleep": {"GOMP_SPINCOUNT": "0"},
    "one_thread": {"OMP_NUM_THREADS": "1"},
}
COMPETITOR = "while True: pass"


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--works", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--cores", type=int, nargs=2, default=(0, 1))
    parser.add_argument("--serve", choices=WORKS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(WORKS[options.serve]())
        return
    os.sched_setaffinity(0, options.cores)  # inherited by all processes
    results: dict[str, Any] = {"load": round(os.getloadavg()[0], 1), "rounds": options.rounds}
    for work in options.works:
        results |= compare(work, options.rounds)
    forms = {work: "one_thread" if work == "training" else "short" for work in options.works}
    results["ratio"] = max(
        round(results[f"{work}_{form}_busy_seconds"] / results[f"{work}_short_seconds"], 2)
        for work, form in forms.items()
    )
    report(results, options.json)


def compare(work: str, rounds: int) -> dict[str, float]:
    """Return the median seconds of the forms of a work, alone and beside a competitor."""
    command = [sys.executable, __file__, "--serve", work]
    processes = {}
    for form, variables in FORMS.items():
        environment = {key: os.environ[key] for key in os.environ if not key.startswith("OMP_")}
        processes[form] = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment | variables,
            text=True,
        )
    try:
        for process in processes.values():
            run_once(process)  # warms up
        seconds: dict[str, tuple[list[float], list[float]]] = {form: ([], []) for form in FORMS}
        for _ in range(rounds):
            for busy in (False, True):
                competitor = subprocess.Popen([sys.executable, "-c", COMPETITOR]) if busy else None
                try:
                    for form, process in processes.items():
                        seconds[form][busy].append(run_once(process))
                finally:
                    if competitor:
                        competitor.kill()
                        competitor.wait()
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    results = {}
    for form, columns in seconds.items():
        alone, busy_time = map(statistics.median, columns)
        results[f"{work}_{form}_seconds"] = round(alone, 3)
        results[f"{work}_{form}_busy_seconds"] = round(busy_time, 3)
        results[f"{work}_{form}_loss"] = round(busy_time / alone, 2)
    return results


def run_once(process: subprocess.Popen[str]) -> float:
    """Let a process do its work once, and return the seconds."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def serve(work: Callable[[], object]) -> None:
    """Do a work for each line of standard input, and print the seconds."""
    for _ in sys.stdin:
        start = time.perf_counter()
        work()
        print(time.perf_counter() - start, flush=True)


def make_training() -> Callable[[], object]:
    """Return five training steps at the demo's sizes, without VGG."""
    import torch

    from training import make_batches, make_config, make_fast, make_state

    config, device = make_config(True, None, "fp32", None), torch.device("cpu")
    step = make_fast(config, make_state(config, device), device)
    batches = make_batches(config.trainer.batch, config.trainer.crop, device)
    return lambda: [step(*batches[0]) for _ in range(5)]


def make_kernels() -> Callable[[], object]:
    """Return 20 iterations of KernelGAN on two photos."""
    from kernelgan import write_samples

    from realsr.imaging import read_uint8
    from realsr.kernels.kernelgan import prepare_photo
    from realsr.kernels.kernelgan_training import KernelGANConfig, train_kernelgans

    config = KernelGANConfig(20, 2e-4, border=0, average_from=None, gan_after_start=False)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_samples(Path(folder))[:2]
        photos = [prepare_photo(read_uint8(path), config, [0])[0] for path in paths]
    return lambda: train_kernelgans(photos, config, [0, 1])


def make_upscaling() -> Callable[[], object]:
    """Return the upscaling of 64x64 pixels with an RRDB of the published size."""
    import torch

    from realsr.core.devices import choose_precision
    from realsr.inference.fast_rrdb import FastRRDB, choose_form
    from realsr.networks.rrdb import RRDB

    precision = choose_precision("auto", torch.device("cpu"))
    network = RRDB(4, 64, 23, 32).eval()
    network = FastRRDB(network, *choose_form(network, precision, automatic=True))
    image = torch.rand(1, 3, 64, 64)

    return lambda: network(image)


WORKS = {"training": make_training, "kernels": make_kernels, "upscaling": make_upscaling}


if __name__ == "__main__":
    main()
