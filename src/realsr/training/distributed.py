"""Training in several processes, started by torchrun.

Each process has a copy of the networks and computes the gradients of its share of a batch.
Gradients are averaged explicitly after both backward passes. For a generator that is trained
through a frozen discriminator, this is simpler than two DistributedDataParallel wrappers.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_reduce

from realsr.core.errors import Interrupted

T = TypeVar("T")
BARRIER_TIMEOUT = timedelta(days=7)  # the first process may be preparing data


@dataclass(frozen=True)
class DistributedContext:
    """This process's `rank` of `world_size`; `barrier_group` waits for up to a week."""

    rank: int = 0
    world_size: int = 1
    barrier_group: dist.ProcessGroup | None = None

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and logs."""
        return self.rank == 0

    def broadcast(self, value: Any) -> Any:
        """Return the first process's value in all processes."""
        values = [value]
        if self.world_size > 1:
            dist.broadcast_object_list(values)
        return values[0]

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes in order of rank."""
        values = [value] * self.world_size
        if self.world_size > 1:
            dist.all_gather_object(values, value)
        return values

    def run_on_main(self, work: Callable[[], T]) -> T:
        """Run `work` in the first process only, and return its result in all processes.

        The others wait for up to a week. If `work` fails, they raise Interrupted.
        """
        result, failure = None, False
        try:
            result = work() if self.is_main else None
        except BaseException:
            failure = True
            raise
        finally:
            if self.world_size > 1:
                dist.barrier(group=self.barrier_group)
            result, failure = self.broadcast((result, failure))
        if failure:
            raise Interrupted("", code=1)  # the first process reports the reason
        return cast(T, result)


SINGLE_PROCESS = DistributedContext()


@contextmanager
def start_processes(device: torch.device) -> Iterator[DistributedContext]:
    """Connect the processes that torchrun started, if any: NCCL on GPUs, gloo on CPUs."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield SINGLE_PROCESS
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    barrier_group = cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=BARRIER_TIMEOUT))
    try:
        yield DistributedContext(dist.get_rank(), count, barrier_group)
    finally:
        dist.destroy_process_group()


def local_rank() -> int:
    """Return this process's rank on its machine, as set by torchrun."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def global_mean(x: Tensor) -> Tensor:
    """Return the mean of x over all processes, a scalar; gradients reach all of them."""
    return all_reduce(x.mean()) / dist.get_world_size() if dist.is_initialized() else x.mean()


@torch.no_grad()
def average(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its mean over the processes, in one message."""
    if not dist.is_initialized():
        return
    message = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(message)
    message /= dist.get_world_size()
    for tensor, mean in zip(
        tensors, message.split([tensor.numel() for tensor in tensors]), strict=True
    ):
        tensor.copy_(mean.view(tensor.shape))
