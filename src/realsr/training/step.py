"""One training step of generator and discriminator on a batch."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from realsr.core.errors import first_line
from realsr.training.distributed import average, global_mean
from realsr.training.generator_loss import GeneratorLoss
from realsr.training.loss_terms.term import StepTensors
from realsr.training.settings import TrainerConfig
from realsr.training.state import TrainState

logger = logging.getLogger("realsr")


@dataclass(frozen=True)
class Outcome:
    """The measurements of a step: named values (n,), float32, on the device, equal on all ranks.

    Unweighted terms of the losses (`loss/…`), means and accuracy of the discriminator
    (`discriminator/…`), variances of the images (`variance/…`), the norm of each parameter's
    gradient (`gradient/<network>/<parameter>`), whether the step was `skipped`, and the share of
    processes with a `stop` request.
    """

    names: list[str]
    values: Tensor


class TrainStep:
    """Trains a state in place, one step per call.

    shape: (N, 3, h, w) of this process's LR batches, for the compilation of the networks.
    """

    def __init__(
        self,
        state: TrainState,
        criterion: GeneratorLoss,
        trainer: TrainerConfig,
        shape: Sequence[int],
    ):
        self._state, self._criterion, self._trainer = state, criterion, trainer
        self._generator: nn.Module = state.generator
        compiling = trainer.compile
        if state.device.type == "cuda" if compiling is None else compiling:
            self._compile([shape[0] // trainer.accumulate, *shape[1:]])

    def __call__(
        self,
        lr: Tensor,
        hr: Tensor,
        rate: float,
        decay: float,
        max_norm: float | None = None,
        stop: bool = False,
    ) -> Outcome:
        """Do a step with learning rate `rate` on this process's share of a batch.

        lr, hr: images, float32 in 0..1. decay: that of the averaged weights.
        max_norm: limit of each network's gradient norm, applied after it is measured; None: none.
        stop: whether this process has a stop request.

        If a measurement is not finite, only the averaged weights change. Does not wait for the GPU.
        """
        state = self._state
        for optimiser in state.optimisers.values():
            optimiser.zero_grad(set_to_none=True)
        before = [buffer.clone() for buffer in state.buffers]

        # Gradients: accumulated over parts of the batch, then averaged over the processes.
        values = self.accumulate(lr, hr)
        values["stop"] = torch.full_like(values["loss/generator"], float(stop))
        gradients = state.gradients()
        average([*gradients.values(), *values.values()])
        for optimiser in state.optimisers.values():
            state.scaler.unscale_(optimiser)
        values |= zip(gradients, torch._foreach_norm(list(gradients.values())), strict=True)

        if max_norm is not None:
            for optimiser in state.optimisers.values():
                nn.utils.clip_grad_norm_(optimiser.param_groups[0]["params"], max_norm)

        # Update. The device decides whether to skip it, so that the CPU does not wait.
        outcome = torch.stack(list(values.values()))
        skipped = outcome.isfinite().logical_not().any().float()
        for optimiser in state.optimisers.values():
            optimiser.param_groups[0]["lr"] = rate
            optimiser.found_inf = skipped  # type: ignore[attr-defined]  # as GradScaler does
            optimiser.step()
        for buffer, old in zip(state.buffers, before, strict=True):
            buffer.copy_(torch.where(skipped > 0, old, buffer))  # running statistics of batch norm
        state.scaler.update()
        state.update_ema(decay)
        return Outcome([*values, "skipped"], torch.cat([outcome, skipped[None]]))

    def accumulate(self, lr: Tensor, hr: Tensor) -> dict[str, Tensor]:
        """Accumulate the gradients over parts of a batch, and return the mean measurements."""
        count = self._trainer.accumulate
        parts = [
            self._accumulate_gradients(*part)
            for part in zip(lr.chunk(count), hr.chunk(count), strict=True)
        ]
        return {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}

    def _accumulate_gradients(self, lr: Tensor, hr: Tensor) -> dict[str, Tensor]:
        """Accumulate the gradients of a part of the batch, and return its measurements."""
        state, discriminator = self._state, self._state.discriminator
        share = 1 / self._trainer.accumulate
        # Both losses use the same discriminator weights: its logits of HR are computed once.
        real_logits = None if discriminator is None else self._discriminate(discriminator, hr)

        with state.precision.autocast(), frozen(discriminator):
            sr = self._generator(lr).float()
            fake_logits = None if discriminator is None else discriminator(sr).float()
            real = None if real_logits is None else real_logits.detach()
            terms = self._criterion(
                StepTensors(lr, hr, sr, self._upscale_by_ema(lr), real, fake_logits)
            )
        state.scaler.scale(terms["generator"] * share).backward()
        values = {f"loss/{name}": term.detach() for name, term in terms.items()}
        values |= {
            f"variance/{name}": x.detach().var(dim=(2, 3)).mean()
            for name, x in (("SR", sr), ("HR", hr))
        }

        if discriminator is not None and real_logits is not None:
            fake_logits = self._discriminate(discriminator, sr.detach())
            loss = self._criterion.discriminator_loss(real_logits, fake_logits)
            state.scaler.scale(loss * share).backward()
            values["loss/discriminator"] = loss.detach()
            values |= describe_logits(real_logits.detach(), fake_logits.detach())
        return values

    def _discriminate(self, discriminator: nn.Module, images: Tensor) -> Tensor:
        with self._state.precision.autocast():
            return discriminator(images).float()

    @torch.no_grad()
    def _upscale_by_ema(self, lr: Tensor) -> Tensor | None:
        ema = self._state.ema
        return ema(lr).float() if ema is not None and "sr_ema" in self._criterion.needs else None

    def _compile(self, shape: Sequence[int]) -> None:
        # Without the discriminator: it is 1/20 of the work, and SyncBatchNorm breaks its graph.
        state = self._state
        lr = torch.zeros(*shape, device=state.device).to(memory_format=torch.channels_last)

        def run(net: nn.Module, images: Tensor) -> Tensor:
            with state.precision.autocast():
                return net(images).float()

        self._generator = compile_network(state.generator, lambda net: run(net, lr).mean())
        with torch.no_grad():
            hr = run(state.generator, lr)

        def trial(net: nn.Module) -> Tensor:
            with torch.no_grad():
                run(net, hr)
            return run(net, hr.clone().requires_grad_()).mean()

        for term in self._criterion.terms.values():
            for name in getattr(term, "networks", ()):
                setattr(term, name, compile_network(getattr(term, name), trial))


def compile_network(net: nn.Module, trial: Callable[[nn.Module], Tensor]) -> nn.Module:
    """Return a compiled network that shares the parameters; the network itself if that fails.

    trial: runs a network as in training, which compiles it, and returns a scalar for the backward
        pass. Gradients and buffers are reset afterwards.
    """
    device = next(net.parameters()).device
    buffers = [buffer.clone() for buffer in net.buffers()]
    start = time.monotonic()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            result = cast(nn.Module, torch.compile(net, dynamic=False))
            trial(result).backward()
        logger.info("%s compiled in %.0f s", type(net).__name__, time.monotonic() - start)
    except Exception as error:  # compilers raise various errors, and training works without one
        logger.warning(
            "%s cannot be compiled (%s: %s); training continues as with trainer.compile=false",
            type(net).__name__, type(error).__name__, first_line(error),
        )  # fmt: skip
        result = net
    net.zero_grad(set_to_none=True)
    for buffer, old in zip(net.buffers(), buffers, strict=True):
        buffer.copy_(old)
    return result


@contextmanager
def frozen(net: nn.Module | None) -> Iterator[None]:
    """Freeze a network's parameters in the block; gradients still reach its input."""
    if net is None:
        yield
        return
    net.requires_grad_(False)
    try:
        yield
    finally:
        net.requires_grad_(True)


def describe_logits(real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """Return the means of the logits and the accuracy in 0..1.

    Accuracy: share of logits on the correct side of the mean logit of the other class.
    """
    right = (real > global_mean(fake)).float().mean() + (fake < global_mean(real)).float().mean()
    return {
        "discriminator/real": real.mean(),
        "discriminator/fake": fake.mean(),
        "discriminator/accuracy": right / 2,
    }
