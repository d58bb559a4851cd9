"""The processes that train together, started by torchrun; one alone is the usual case.

Each process has a copy of the networks and computes the gradients of its part of a batch. Gradients are averaged
explicitly, after both backward passes: with a generator that is trained through a frozen discriminator this is
shorter than wrapping either in DistributedDataParallel, and leaves the networks as they are.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from realsr.core.errors import Interrupted

T = TypeVar("T")
PATIENCE = timedelta(days=7)  # while the first process prepares the data


@dataclass(frozen=True)
class DistributedContext:
    """Which process this is: `rank` of `world_size`; `patient` is a group that waits for days."""

    rank: int = 0
    world_size: int = 1
    patient: dist.ProcessGroup | None = None

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and tells of the training."""
        return self.rank == 0

    def broadcast(self, value: Any) -> Any:
        """Return the first process's value in all of them."""
        if self.world_size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, in order."""
        values = [value] * self.world_size
        if self.world_size > 1:
            dist.all_gather_object(values, value)
        return values

    def run_on_main(self, work: Callable[[], T]) -> T:
        """Do work in the first process alone, however long it takes, and return its result in all.

        Where it fails there, the others raise Interrupted.
        """
        result, failed = None, False
        try:
            result = work() if self.is_main else None
        except BaseException:
            failed = True
            raise
        finally:
            self.wait()
            result, failed = self.broadcast((result, failed))
        if failed:
            raise Interrupted("", code=1)  # the first one says why
        return cast(T, result)

    def wait(self) -> None:
        """Wait until all processes are here, for days if need be."""
        if self.world_size > 1:
            dist.barrier(group=self.patient)


SINGLE_PROCESS = DistributedContext()


@contextmanager
def start_processes(device: torch.device) -> Iterator[DistributedContext]:
    """Join the processes that torchrun has started, if it has, by NCCL on GPUs and gloo on CPUs."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield SINGLE_PROCESS
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    patient = cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=PATIENCE))
    try:
        yield DistributedContext(dist.get_rank(), count, patient)
    finally:
        dist.destroy_process_group()


def local_rank() -> int:
    """Return which process on its machine this is, as torchrun tells."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def global_mean(x: Tensor) -> Tensor:
    """Return the mean over the x of all processes, a scalar; the gradient reaches all of them."""
    if not dist.is_initialized():
        return x.mean()
    return _Sum.apply(x.mean()) / dist.get_world_size()


class _Sum(torch.autograd.Function):
    """The sum over processes. Each one's loss depends on it, so the gradient of each is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


@torch.no_grad()
def average(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its mean over the processes, by one message."""
    if not dist.is_initialized():
        return
    tensors = list(tensors)
    message = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(message)
    message /= dist.get_world_size()
    for tensor, mean in zip(tensors, message.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(mean.view(tensor.shape))


def synchronise_batch_norm(net: nn.Module, processes: DistributedContext, device: torch.device) -> nn.Module:
    """Return the network with batch norm over the batches of all processes, which needs GPUs."""
    if processes.world_size > 1 and device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(net)
    return net
