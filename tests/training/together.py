"""What test_distributed.py runs by torchrun, all tasks in a row: python together.py FOLDER."""

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from realsr.core.errors import Interrupted
from realsr.data.cache import DecodedImages
from realsr.data.degradations.noise import Noise
from realsr.data.pairs import list_pairs
from realsr.imaging import write_uint8
from realsr.training import loop
from realsr.training.distributed import DistributedContext, average, start_processes
from realsr.training.loss_terms.l1 import L1
from realsr.training.loss_terms.term import StepTensors
from realsr.training.monitor import TrainingMonitor
from realsr.training.settings import OptimiserConfig, TrainerConfig, TrainingConfig
from realsr.training.step import Outcome
from realsr.training.validation import ValidationSet

sys.path.append(str(Path(__file__).parents[1]))  # torchrun starts this file by itself
from config_files import config_of

CPU = torch.device("cpu")


class Critic(nn.Sequential):
    """A patch discriminator without batch norm, which is synchronised on GPUs only."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 16, 4, 2, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(16, 1, 3, 1, 1),
        )  # fmt: skip


def ragan(processes: DistributedContext, folder: Path) -> list[float]:
    from test_distributed import ragan_gradients

    logits = torch.load(folder.parent / "logits.pt")
    mine = {
        name: values.chunk(processes.world_size)[processes.rank] for name, values in logits.items()
    }
    return ragan_gradients(mine["real"], mine["fake"])


def talk(processes: DistributedContext, folder: Path) -> dict[str, object]:
    rank = processes.rank
    tensors = [torch.tensor([1.0, 2.0]) + rank, torch.full((1, 1), 10.0 + 10 * rank)]
    average(tensors)

    def fail() -> None:
        raise ValueError("no")

    try:
        processes.run_on_main(fail)
        failed = "nothing"
    except (ValueError, Interrupted) as error:
        failed = type(error).__name__
    return {
        "shared": processes.broadcast(f"of {rank}"),
        "gathered": processes.gather(10 * rank),
        "led": processes.run_on_main(lambda: f"done by {rank}"),
        "average": [tensor.flatten().tolist() for tensor in tensors],
        "failed": failed,
    }


def write_pairs(folder: Path) -> None:
    for index in range(5):
        rng = np.random.default_rng(index)
        lr = rng.integers(0, 256, (30, 34, 3), dtype=np.uint8)
        for kind, image in (("LR", lr), ("HR", lr.repeat(2, axis=0).repeat(2, axis=1))):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            write_uint8(folder / kind / f"p{index}.png", image)


def train_small(
    processes: DistributedContext,
    folder: Path,
    steps: int = 20,
    each: Callable[[int], None] = lambda step: None,
) -> list[dict[str, float]]:
    """Train small networks on a batch of 16, call `each` after each step, and return what was seen of each."""
    processes.run_on_main(lambda: write_pairs(folder / "pairs"))
    pairs = list_pairs(folder / "pairs", 2)
    config = TrainingConfig(
        generator={"name": "rrdb", "features": 8, "blocks": 1, "growth": 4},
        discriminator={"name": "together.Critic"},
        loss={"pixel": {"name": "l1", "weight": 0.1}, "gan": {"name": "ragan", "weight": 0.5}},
        optimiser=config_of(OptimiserConfig, learning_rate=1e-3),
        trainer=config_of(
            TrainerConfig,
            max_steps=steps,
            batch=16,
            crop=16,
            workers=0,
            device="cpu",
            checkpoint_every=100,
        ),
        scale=2,
        seed=0,
        init=None,
        tracker={},
    )
    seen = list[dict[str, float]]()

    class Noting(TrainingMonitor):
        def follow(self, step: int, outcome: Outcome) -> None:
            super().follow(step, outcome)
            seen.append(self.latest)
            each(step)

    loop.TrainingMonitor = Noting  # type: ignore[misc]
    noise = Noise("random", DecodedImages([pairs[0].lr]))
    loop.train(
        pairs,
        noise,
        ValidationSet("held_out", []),
        folder / "run",
        config,
        folder / "cache",
        processes,
    )
    return seen


def stop(processes: DistributedContext, folder: Path) -> str:
    """The second process alone is asked to stop."""

    def ask(step: int) -> None:
        if step == 2 and processes.rank == 1:
            signal.raise_signal(signal.SIGTERM)

    try:
        train_small(processes, folder, each=ask)
    except Interrupted as interrupted:
        return str(interrupted)
    return "went on"


def skip(processes: DistributedContext, folder: Path) -> list[float]:
    """The second process alone meets a loss that is not finite, in the second step; whether each step is skipped."""
    calls = []
    plain = L1.forward

    def loss(self: L1, x: StepTensors) -> Tensor:
        calls.append(0)
        return plain(self, x) + (torch.nan if len(calls) == 2 and processes.rank == 1 else 0)

    L1.forward = loss  # type: ignore[method-assign]
    values = train_small(processes, folder, steps=3)
    L1.forward = plain  # type: ignore[method-assign]
    return [value["skipped"] for value in values]


def main() -> None:
    folder = Path(sys.argv[1])
    sys.path.insert(0, str(Path(__file__).parent))
    torch.set_num_threads(1)
    with start_processes(CPU) as processes:
        results = {
            task.__name__: task(processes, folder / task.__name__)
            for task in (ragan, talk, train_small, stop, skip)
        }
        (folder / f"{processes.rank}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
