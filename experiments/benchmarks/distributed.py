"""Run the distributed training step with 1, 2, 4 and 8 processes over gloo on the CPU.

    python experiments/benchmarks/distributed.py [--processes 1 2 4 8] [--rounds 15] [--sizes BYTES…]
        [--json FILE]

**Correctness.** A tiny training (RRDB of 8 features, U-Net discriminator, L1 and RaGAN, 5 steps) of
one batch of 16 images, shared among n processes, against one process with the whole batch: the
largest relative difference of the losses, and the largest difference of the generator's weights
relative to their largest change. Rounding is amplified by Adam, whose first steps depend on the
sign of a gradient only.

**Time of averaging.** `realsr.training.distributed.average` on float32 tensors of 2^16 to 2^26
bytes: the minimum over rounds of the slowest process. A ring all-reduce passes 2 (n - 1) messages of
bytes / n, one after the other, from process to process:

    t(n, bytes) = 2 (n - 1) (latency + bytes / (n rate)) + bytes * copy

Copy stands for joining and dividing the message, in each process. Latency, rate and copy are fitted
to all measurements (least squares of relative errors, values not negative), and the model is
evaluated for 16, 32 and 64 processes and the gradients of the paper's networks (77.9 MB, from
`realsr plan +track=dped`). All processes share the cores of one machine: with more processes than
cores they wait for each other, so the fit describes this machine, and not a cluster. For a
cluster, the model is also evaluated with its own rates: NCCL over NVLink, 100 Gbit/s and
10 Gbit/s Ethernet.

The last line is the largest relative error of the model for the measured message nearest to the
paper's.
"""

import multiprocessing
import os
import socket
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from common import make_parser, report
from scipy.optimize import nnls

from realsr.config.composition import extract_part, load_config
from realsr.training.distributed import DistributedContext, average, start_processes
from realsr.training.generator_loss import GeneratorLoss
from realsr.training.settings import TrainingConfig
from realsr.training.state import make_state
from realsr.training.step import TrainStep

CPU = torch.device("cpu")
GRADIENTS = 77.9e6  # bytes
STEPS, BATCH, CROP, SCALE = 5, 16, 32, 2
# Seconds of a message, and bytes per second of one process: stated, not measured.
NETWORKS = {
    "NVLink, 8 GPUs of one machine": (10e-6, 200e9),
    "100 Gbit/s": (20e-6, 10e9),
    "10 Gbit/s": (50e-6, 1e9),
}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[2**exponent for exponent in range(16, 27, 2)]
    )
    options = parser.parse_args()
    results: dict[str, Any] = {}
    sizes = options.sizes
    reference = run_processes(1, train)[0]
    times = {}
    for count in options.processes:
        losses, weights = run_processes(count, train)[0]
        results[f"loss_difference_{count}"] = float(np.abs(losses / reference[0] - 1).max())
        change = np.abs(reference[1][-1] - reference[1][0]).max()
        difference = np.abs(weights[-1] - reference[1][-1]).max()
        results[f"weight_difference_{count}"] = float(difference / change)
        if count > 1:
            rounds = np.array(run_processes(count, measure_average, sizes, options.rounds))
            times[count] = rounds.max(axis=0).min(axis=1).tolist()
            for size, seconds in zip(sizes, times[count], strict=True):
                results[f"seconds_{count}_processes_{size}_bytes"] = round(seconds, 6)
    latency, inverse_rate, copy = fit(sizes, times)
    results |= {
        "latency_seconds": latency,
        "rate_bytes_per_second": 1 / inverse_rate if inverse_rate else None,
        "copy_seconds_per_byte": copy,
    }
    for count in (2, 8, 16, 32, 64):
        seconds = model(count, GRADIENTS, latency, inverse_rate, copy)
        results[f"model_seconds_{count}_processes"] = round(seconds, 4)
    for name, (wait, rate) in NETWORKS.items():
        for count in (8, 64):
            seconds = model(count, GRADIENTS, wait, 1 / rate, 0)
            results[f"model_seconds_{count}_processes, {name}"] = round(seconds, 5)
    errors = [
        abs(model(count, sizes[-1], latency, inverse_rate, copy) / seconds[-1] - 1)
        for count, seconds in times.items()
    ]
    results["ratio"] = round(max(errors), 3)
    report(results, options.json)


def model(count: int, size: float, latency: float, inverse_rate: float, copy: float) -> float:
    """Return the seconds of averaging `size` bytes over `count` processes, see the module."""
    return 2 * (count - 1) * (latency + size / count * inverse_rate) + size * copy


def fit(sizes: list[int], times: dict[int, list[float]]) -> tuple[float, float, float]:
    """Return latency, 1 / rate and copy, which minimise the sum of squared relative errors."""
    rows = [
        np.array([2 * (count - 1), 2 * (count - 1) * size / count, size]) / seconds
        for count, values in times.items()
        for size, seconds in zip(sizes, values, strict=True)
    ]
    matrix = np.array(rows)
    scale = matrix.max(axis=0)
    solution = nnls(matrix / scale, np.ones(len(rows)))[0] / scale
    return tuple(float(value) for value in solution)


def run_processes(count: int, task: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Return the results of a task in `count` connected processes, in order of rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")  # torch is imported once
    queue = context.Queue()
    processes = [
        context.Process(target=work, args=(rank, count, port, queue, task, arguments))
        for rank in range(count)
    ]
    for process in processes:
        process.start()
    results = dict(queue.get(timeout=3600) for _ in processes)
    for process in processes:
        process.join()
    for result in results.values():
        if isinstance(result, Exception):
            raise result
    return [results[rank] for rank in range(count)]


def work(
    rank: int, count: int, port: int, queue: Any, task: Callable[..., Any], arguments: Any
) -> None:
    """Connect this process as torchrun would, and put (rank, result) into the queue."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "torch.distributed.nn.functional.all_reduce is deprecated")
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    try:
        with start_processes(CPU) as processes:
            queue.put((rank, task(processes, *arguments)))
    except Exception as error:  # otherwise the parent would wait
        queue.put((rank, error))


def train(processes: DistributedContext) -> tuple[np.ndarray, np.ndarray]:
    """Return the generator's losses (steps,), and its weights before and after, (2, parameters)."""
    config = make_config()
    state = make_state(config, CPU, processes)
    generator = torch.Generator().manual_seed(0)
    lr = torch.rand(BATCH, 3, CROP // SCALE, CROP // SCALE, generator=generator)
    hr = torch.rand(BATCH, 3, CROP, CROP, generator=generator)
    lr, hr = (x.chunk(processes.world_size)[processes.rank] for x in (lr, hr))
    step = TrainStep(state, GeneratorLoss(config.loss), config.trainer, lr.shape)
    losses, weights = [], [flatten(state.generator)]
    for _ in range(STEPS):
        outcome = step(lr, hr, rate=1e-4, decay=0.999)
        values = dict(zip(outcome.names, outcome.values.tolist(), strict=True))
        losses.append(values["loss/generator"])
    weights.append(flatten(state.generator))
    return np.array(losses), np.stack(weights)


def make_config() -> TrainingConfig:
    recipe = load_config("train", track="df2k")
    trainer = replace(
        recipe.trainer, batch=BATCH, crop=CROP, precision="fp32", compile=False, device="cpu"
    )
    return extract_part(
        recipe,
        TrainingConfig,
        generator={"name": "rrdb", "features": 8, "blocks": 1, "growth": 4},
        discriminator={"name": "unet", "features": 8},  # no batch norm, which is not synced on CPUs
        loss={"pixel": {"name": "l1", "weight": 1.0}, "gan": {"name": "ragan", "weight": 0.1}},
        trainer=trainer,
        scale=SCALE,
    )


def flatten(net: torch.nn.Module) -> np.ndarray:
    return torch.cat([p.detach().reshape(-1) for p in net.parameters()]).numpy().copy()


def measure_average(
    processes: DistributedContext, sizes: list[int], rounds: int
) -> list[list[float]]:
    """Return the seconds of `average` for each size and round."""
    times = []
    for size in sizes:
        tensors = list(torch.ones(size // 4).chunk(16))
        times.append([measure_once(tensors, processes) for _ in range(rounds + 1)][1:])
    return times


def measure_once(tensors: list[torch.Tensor], processes: DistributedContext) -> float:
    torch.distributed.barrier()
    start = time.perf_counter()
    average(tensors)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
