"""The cost of a training, counted from the operations of one step, which are not computed."""

import copy
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from realsr.core.errors import UserError
from realsr.training.generator_loss import GeneratorLoss
from realsr.training.loss_terms.classifier_weights import without_weights
from realsr.training.settings import TrainingConfig
from realsr.training.state import TrainState, make_state
from realsr.training.step import TrainStep

USABLE_MEMORY = 0.9
"""Fraction of a GPU's memory for tensors; the rest is for CUDA, workspaces and fragments."""


@dataclass(frozen=True)
class GpuKind:
    """Memory in GB, its bandwidth in GB/s, and dense peak rates in TFLOP/s.

    half: fp16 or bf16 products with float32 sums. tf32: None if the kind has no TF32.
    """

    name: str
    memory: int
    bandwidth: int
    half: float
    tf32: float | None
    fp32: float
    has_bf16: bool = True


# Dense rates, from NVIDIA: data sheets of later kinds print twice the value, for sparse matrices.
GPU_KINDS = (
    GpuKind("T4", 16, 320, 65, None, 8.1, has_bf16=False),  # data sheet, 2019
    GpuKind("V100", 32, 900, 125, None, 15.7, has_bf16=False),  # data sheet, 2020, SXM2
    GpuKind("RTX 3090", 24, 936, 71, 35.6, 35.6),  # GA102 architecture paper, 2021, table 9
    GpuKind("RTX 4090", 24, 1008, 165.2, 82.6, 82.6),  # Ada architecture paper, 2023, appendix A
    GpuKind("L40S", 48, 864, 362, 183, 91.6),  # data sheet, 2023
    GpuKind("A100", 80, 2039, 312, 156, 19.5),  # data sheet, 2022, 80 GB SXM
    GpuKind("H100", 80, 3350, 989, 495, 67),  # data sheet, 2023, SXM
    GpuKind("H200", 141, 4800, 989, 495, 67),  # data sheet, 2024, SXM
)


@dataclass(frozen=True)
class StepCost:
    """The cost of one training step in one process.

    Attributes:
        parameters: trained parameters by network.
        flop: floating-point operations of convolutions and matrix products, forward and backward,
            for the whole batch; two for a multiplication with its addition, as torch's
            `FlopCounterMode` counts.
        traffic: bytes that the operations read and write. Operations that a compiler joins need
            less.
        weights: bytes of parameters and buffers: networks, averaged generator, loss networks.
        optimiser: bytes of Adam's two moments.
        activations: peak bytes of what a step allocates: images, activations, gradients. Without
            workspaces of libraries and unused memory of allocators.
        gradients: bytes of the gradients, which processes average in each step.
    """

    parameters: dict[str, int]
    flop: float
    traffic: int
    weights: int
    optimiser: int
    activations: int
    gradients: int

    @property
    def memory(self) -> int:
        """Peak memory in bytes."""
        return self.weights + self.optimiser + self.activations


@dataclass(frozen=True)
class GpuPlan:
    """A step on one GPU of a kind: peak in TFLOP/s, and seconds.

    Attributes:
        fits: whether the step needs at most `USABLE_MEMORY` of the GPU's memory.
        seconds: max(FLOP / (utilisation * peak rate), memory traffic / bandwidth).
        bound: the larger of the two, `FLOP` or `traffic`.
    """

    kind: str
    precision: str
    fits: bool
    peak: float
    seconds: float
    bound: str


@dataclass(frozen=True)
class RatePlan:
    """The hours of a training at a measured rate, in images per second, and its TFLOP/s."""

    rate: float
    hours: float
    tflops: float


@dataclass(frozen=True)
class TrainingPlan:
    """The cost of a training of `steps` batches.

    costs: of a step, by precision (bf16, fp32). cache: bytes of the decoded pairs; None: unknown.
    """

    steps: int
    batch: int
    crop: int
    costs: dict[str, StepCost]
    cache: int | None
    utilisation: float
    gpus: list[GpuPlan]
    measured: RatePlan | None

    def __repr__(self) -> str:
        lines = [f"TrainingPlan({self.steps} steps, {self.batch} crops of {self.crop}x{self.crop})"]
        for gpu in self.gpus:
            note = "" if gpu.fits else ", too little memory"
            hours = self.steps * gpu.seconds / 3600
            lines.append(f"{gpu.kind} ({gpu.precision}): {hours:.2f} hours{note}")
        return "\n".join(lines)

    @property
    def flop(self) -> float:
        """Floating-point operations of a step."""
        return next(iter(self.costs.values())).flop


def make_plan(
    config: TrainingConfig, utilisation: float, rate: float | None, cache: int | None
) -> TrainingPlan:
    """Return the cost of a training on each kind of GPU that supports its precision.

    Args:
        config: the training.
        utilisation: fraction of the peak rate, 0..1.
        rate: images per second of a training that was measured; None: none.
        cache: bytes of the decoded pairs; None: unknown.

    Raises:
        UserError: as `count_step`.
    """
    trainer = config.trainer
    names = {"auto": ("bf16", "fp32"), "bf16": ("bf16",), "fp16": ("bf16",)}
    costs = {name: count_step(config, name) for name in names.get(trainer.precision, ("fp32",))}
    gpus = [plan_gpu(kind, trainer.precision, costs, utilisation) for kind in GPU_KINDS]
    plan = TrainingPlan(
        steps=trainer.max_steps,
        batch=trainer.batch,
        crop=trainer.crop,
        costs=costs,
        cache=cache,
        utilisation=utilisation,
        gpus=[gpu for gpu in gpus if gpu is not None],
        measured=None,
    )
    if rate is None:
        return plan
    seconds = trainer.batch / rate
    hours = plan.steps * seconds / 3600
    return replace(plan, measured=RatePlan(rate, hours, plan.flop / seconds / 1e12))


def plan_gpu(
    kind: GpuKind, precision: str, costs: Mapping[str, StepCost], utilisation: float
) -> GpuPlan | None:
    """Return the plan of a step; None if the kind does not support the precision.

    precision: that of `trainer.precision`. costs: of a step in bf16 (also for fp16) and fp32.
    utilisation: fraction of the peak rate.
    """
    rate = choose_rate(kind, precision)
    if rate is None:
        return None
    name, peak = rate
    cost = costs["bf16" if name in ("bf16", "fp16") else "fp32"]
    times = {
        "FLOP": cost.flop / (utilisation * peak * 1e12),
        "traffic": cost.traffic / (kind.bandwidth * 1e9),
    }
    bound = max(times, key=times.__getitem__)
    fits = cost.memory <= USABLE_MEMORY * kind.memory * 1e9
    return GpuPlan(kind.name, name, fits, peak, times[bound], bound)


def choose_rate(kind: GpuKind, precision: str) -> tuple[str, float] | None:
    """Return the precision that `trainer.precision` means on a GPU kind, and its peak in TFLOP/s.

    As `choose_precision` in training. None: the kind does not support it.
    """
    if precision == "auto":
        precision = "bf16" if kind.has_bf16 else "tf32"
    if precision == "bf16":
        return ("bf16", kind.half) if kind.has_bf16 else None
    if precision == "fp16":
        return "fp16", kind.half
    if precision == "tf32" and kind.tf32 is not None:
        return "tf32", kind.tf32
    return "fp32", kind.fp32


def count_step(config: TrainingConfig, precision: str) -> StepCost:
    """Return the cost of a step on the whole batch in one process, without computing it.

    The step of the training runs on fake tensors, which have shapes but no values. Autocast on the
    CPU selects the operations in half precision; a GPU's selection is nearly equal.

    Args:
        config: the training.
        precision: bf16 or fp32.

    Raises:
        UserError: for an operation that needs values.
    """
    trainer = replace(config.trainer, precision=precision, compile=False)
    config = replace(config, trainer=trainer)
    state = make_state(config, torch.device("cpu"))
    with without_weights():
        criterion = GeneratorLoss(config.loss)
    parameters = {
        name: sum(p.numel() for p in net.parameters() if p.requires_grad)
        for name, net in state.networks.items()
    }
    gradients = 4 * sum(parameters.values())
    flop, memory = _trace_step(config, state, criterion)
    return StepCost(
        parameters,
        float(flop),
        memory.traffic,
        weights=sum(tensor.nbytes for tensor in _list_tensors(state, criterion)),
        optimiser=2 * gradients,
        activations=memory.peak,
        gradients=gradients,
    )


def _trace_step(
    config: TrainingConfig, state: TrainState, criterion: GeneratorLoss
) -> tuple[int, "_MemoryCounter"]:
    """Run a step on fake copies; return its floating-point operations and its memory."""
    # Imported here, since the import takes a second.
    from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode

    trainer, mode = config.trainer, FakeTensorMode()
    with FakeCopyMode(mode):
        networks, ema = copy.deepcopy((state.networks, state.ema))
        criterion = copy.deepcopy(criterion)
    state = replace(state, networks=networks, ema=ema)
    external = _list_tensors(state, criterion)
    with mode, FlopCounterMode(display=False) as counter, _MemoryCounter(external) as memory:
        side = trainer.crop // config.scale
        lr = torch.empty(trainer.batch, 3, side, side)
        hr = torch.empty(trainer.batch, 3, trainer.crop, trainer.crop)
        try:
            TrainStep(state, criterion, trainer, lr.shape).accumulate(lr, hr)
        except (NotImplementedError, RuntimeError) as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise UserError(
                f"the step cannot be planned ({reason}): a plan needs networks and loss terms whose "
                "operations depend on shapes only"
            ) from error
    return counter.get_total_flops(), memory


def _list_tensors(state: TrainState, criterion: nn.Module) -> list[Tensor]:
    networks = [*state.networks.values(), *filter(None, [state.ema]), criterion]
    return [tensor for net in networks for tensor in (*net.parameters(), *net.buffers())]


class _MemoryCounter(TorchDispatchMode):
    """Counts the traffic of operations, and the peak of live tensors beside those from outside."""

    def __init__(self, external: list[Tensor]) -> None:
        super().__init__()
        self._live = self.peak = self.traffic = 0
        self._storages = {id(tensor.untyped_storage()) for tensor in external}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        outputs = [x for x in tree_leaves(result) if isinstance(x, Tensor)]
        for tensor in outputs:
            self._add(tensor.untyped_storage())
        if not func.is_view:
            inputs = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
            self.traffic += sum(tensor.nbytes for tensor in (*inputs, *outputs))
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        # The Python object of a storage lives as long as its memory.
        key, size = id(storage), storage.nbytes()
        if key in self._storages:
            return
        self._storages.add(key)
        self._live += size
        self.peak = max(self.peak, self._live)
        weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self._storages.discard(key)
        self._live -= size
