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
from realsr.training.gpu_kinds import GPU_KINDS, GpuPlan, StepCost, plan_gpu
from realsr.training.loss_terms.classifier_weights import without_weights
from realsr.training.settings import TrainingConfig
from realsr.training.state import make_state
from realsr.training.step import TrainStep

CPU = torch.device("cpu")


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
    trainer, steps = config.trainer, config.trainer.max_steps
    names = {"auto": ("bf16", "fp32"), "bf16": ("bf16",), "fp16": ("bf16",)}
    costs = {name: count_step(config, name) for name in names.get(trainer.precision, ("fp32",))}
    flop = next(iter(costs.values())).flop
    gpus = [plan_gpu(kind, trainer.precision, costs, utilisation) for kind in GPU_KINDS]
    rate_plan = None
    if rate is not None:
        seconds = trainer.batch / rate
        rate_plan = RatePlan(rate, steps * seconds / 3600, flop / seconds / 1e12)
    return TrainingPlan(
        steps,
        trainer.batch,
        trainer.crop,
        costs,
        cache,
        utilisation,
        [gpu for gpu in gpus if gpu is not None],
        rate_plan,
    )


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
    # Imported here, since the import takes a second.
    from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode

    trainer = replace(config.trainer, precision=precision, compile=False)
    config = replace(config, trainer=trainer)
    state = make_state(config, CPU)
    with without_weights():
        criterion = GeneratorLoss(config.loss)
    networks = [*state.networks.values(), *filter(None, [state.ema]), criterion]
    weights = sum(tensor.nbytes for net in networks for tensor in _tensors(net))
    parameters = {
        name: sum(p.numel() for p in net.parameters() if p.requires_grad)
        for name, net in state.networks.items()
    }
    side = trainer.crop // config.scale
    shape = (trainer.batch, 3, side, side)
    mode = FakeTensorMode()
    with FakeCopyMode(mode):
        fakes = {name: copy.deepcopy(net) for name, net in state.networks.items()}
        ema, criterion = copy.deepcopy(state.ema), copy.deepcopy(criterion)
    state = replace(
        state, generator=fakes["generator"], discriminator=fakes.get("discriminator"), ema=ema
    )
    tensors = [*_tensors(criterion), *(t for net in fakes.values() for t in _tensors(net))]
    tensors += [] if ema is None else _tensors(ema)
    with mode, FlopCounterMode(display=False) as counter, _MemoryCounter(tensors) as memory:
        lr = torch.empty(shape)
        hr = torch.empty(*shape[:2], trainer.crop, trainer.crop)
        try:
            TrainStep(state, criterion, trainer, shape).accumulate(lr, hr)
        except (NotImplementedError, RuntimeError) as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise UserError(
                f"the step cannot be planned ({reason}): a plan needs networks and loss terms whose "
                "operations depend on shapes only"
            ) from error
    bytes_trained = 4 * sum(parameters.values())
    return StepCost(
        parameters,
        float(counter.get_total_flops()),
        memory.traffic,
        weights,
        optimiser=2 * bytes_trained,
        activations=memory.peak,
        gradients=bytes_trained,
    )


def _tensors(net: nn.Module) -> list[Tensor]:
    return [*net.parameters(), *net.buffers()]


class _MemoryCounter(TorchDispatchMode):
    """Counts the bytes that operations in the block read and write, and the peak of live tensors.

    known: tensors from outside, which do not count as live.
    """

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()
        self._live = self.peak = self.traffic = 0
        self._storages = {id(tensor.untyped_storage()) for tensor in known}

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
