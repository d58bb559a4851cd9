"""DistributedContext that train together, over gloo on the CPU."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from together import train_small
from torch import Tensor

from realsr.training.distributed import SINGLE_PROCESS, global_mean
from realsr.training.loss_terms.ragan import discriminator_ragan_loss, generator_ragan_loss

TOGETHER = Path(__file__).with_name("together.py")
Results = list[dict[str, Any]]


@pytest.fixture(scope="module")
def logits() -> dict[str, Tensor]:
    chance = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(4, 1, 3, 3, generator=chance) + shift
        for name, shift in (("real", 0.5), ("fake", -0.2))
    }


@pytest.fixture(scope="module")
def together(logits: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What each of two processes, with torchrun's variables, has found in the tasks of together.py."""
    folder = tmp_path_factory.mktemp("together")
    torch.save(logits, folder / "logits.pt")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            [sys.executable, str(TOGETHER), str(folder)],
            env={**os.environ, "OMP_NUM_THREADS": "1", **shared, "RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    for process in processes:
        log = process.communicate(timeout=300)[1]
        assert process.returncode == 0, log[-3000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_alone_everything_is_as_it_is() -> None:
    assert SINGLE_PROCESS.is_main
    assert SINGLE_PROCESS.broadcast({"a": 1}) == {"a": 1}
    assert SINGLE_PROCESS.gather(3) == [3]
    assert SINGLE_PROCESS.run_on_main(lambda: 5) == 5
    x = torch.rand(4, requires_grad=True)
    assert global_mean(x) == x.mean()


def ragan_gradients(real: Tensor, fake: Tensor) -> list[float]:
    real, fake = real.clone().requires_grad_(), fake.clone().requires_grad_()
    g, d = generator_ragan_loss(real.detach(), fake), discriminator_ragan_loss(real, fake)
    of_g = torch.autograd.grad(g, fake)[0]
    of_d = torch.autograd.grad(d, [real, fake])
    return [g.item(), d.item(), *torch.cat([x.flatten() for x in (of_g, *of_d)]).tolist()]


def test_ragan_over_two_processes_is_that_of_their_batches_together(
    together: Results, logits: dict[str, Tensor]
) -> None:
    one, two = (result["ragan"] for result in together)
    whole = ragan_gradients(**logits)
    assert [(a + b) / 2 for a, b in zip(one[:2], two[:2], strict=True)] == pytest.approx(whole[:2])
    # A process's loss is of its half of the batch: the mean of the processes' gradients is that of the whole.
    for n in range(3):
        halves = [value / 2 for part in (one, two) for value in part[2 + 18 * n : 2 + 18 * (n + 1)]]
        assert halves == pytest.approx(whole[2 + 36 * n : 2 + 36 * (n + 1)], abs=1e-7)


def test_what_is_shared_gathered_and_led(together: Results) -> None:
    for rank, result in enumerate(together):
        assert result["talk"] == {
            "shared": "of 0", "gathered": [0, 10], "led": "done by 0", "average": [[1.5, 2.5], [15.0]],
            "failed": "ValueError" if rank == 0 else "Interrupted",
        }  # fmt: skip


def test_two_processes_follow_one_with_the_whole_batch(together: Results, tmp_path: Path) -> None:
    alone = train_small(SINGLE_PROCESS, tmp_path)
    assert together[0]["train_small"] == together[1]["train_small"], (
        "all processes see the same values"
    )
    assert len(alone) == 20
    for one, two in zip(alone, together[0]["train_small"], strict=True):
        assert one.keys() == two.keys()
        for name in one:
            if name.startswith("loss/"):
                assert two[name] == pytest.approx(one[name], rel=1e-4), name
    assert len({values["loss/generator"] for values in alone}) == 20, "something was trained"


def test_a_process_that_is_asked_to_stop_stops_all(together: Results) -> None:
    assert together[0]["stop"].startswith("stopped after step 3 by SIGTERM; its state is saved")
    assert together[1]["stop"] == "", "one process tells"


def test_a_value_that_is_not_finite_in_one_process_is_skipped_by_all(together: Results) -> None:
    assert [result["skip"] for result in together] == [[0, 1, 0], [0, 1, 0]]
