"""What is trained and by what: networks, averaged weights, optimisers."""

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from realsr.core.devices import Precision, choose_precision
from realsr.core.seeding import derive_seed
from realsr.networks.build import build_discriminator, build_generator
from realsr.training.distributed import SINGLE_PROCESS, DistributedContext, synchronise_batch_norm
from realsr.training.generator_loss import needs_discriminator
from realsr.training.settings import OptimiserConfig, TrainingConfig


@dataclass
class TrainState:
    """What is trained. Without a term that reads logits there is no discriminator; `ema` is the averaged generator."""

    generator: nn.Module
    discriminator: nn.Module | None
    ema: nn.Module | None
    generator_optimiser: torch.optim.Adam
    discriminator_optimiser: torch.optim.Adam | None
    scaler: torch.amp.GradScaler
    precision: Precision

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.precision.device

    @property
    def optimisers(self) -> list[torch.optim.Adam]:
        """The optimisers that there are."""
        return [o for o in (self.generator_optimiser, self.discriminator_optimiser) if o is not None]

    # Lists of tensors are made once: to walk through a thousand modules takes milliseconds, and a step not many.

    @cached_property
    def buffers(self) -> list[Tensor]:
        """The buffers of generator and discriminator, which a forward pass may change."""
        return [buffer for net in (self.generator, self.discriminator) if net is not None for buffer in net.buffers()]

    @cached_property
    def _parameters(self) -> dict[str, nn.Parameter]:
        networks = {"generator": self.generator, "discriminator": self.discriminator}
        return {
            f"gradient/{name}/{key}": parameter
            for name, net in networks.items()
            if net is not None
            for key, parameter in net.named_parameters()
        }

    @cached_property
    def _averaged(self) -> tuple[list[Tensor], list[Tensor], list[tuple[Tensor, Tensor]]]:
        assert self.ema is not None
        parameters = list[Tensor](self.ema.parameters()), list[Tensor](self.generator.parameters())
        return *parameters, list(zip(self.ema.buffers(), self.generator.buffers(), strict=True))

    def gradients(self) -> dict[str, Tensor]:
        """Return the gradients that there are, as `gradient/<network>/<parameter>`."""
        return {name: p.grad for name, p in self._parameters.items() if p.grad is not None}

    @torch.no_grad()
    def update_ema(self, decay: float) -> None:
        """Move the averaged weights towards the generator's: ema = decay ema + (1 - decay) generator."""
        if self.ema is None:
            return
        averaged, parameters, buffers = self._averaged
        torch._foreach_lerp_(averaged, parameters, 1 - decay)
        for mine, buffer in buffers:
            mine.copy_(buffer)

    def state(self) -> dict[str, Any]:
        """Return the state of each part, by name, for a checkpoint."""
        return {name: part.state_dict() for name, part in self._stateful().items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state. What a config says of an optimiser stands; its moments are taken.

        Raises KeyError, RuntimeError or ValueError where the state is of other parts.
        """
        for name, part in self._stateful().items():
            if isinstance(part, torch.optim.Optimizer):
                part.load_state_dict({"state": state[name]["state"], "param_groups": part.state_dict()["param_groups"]})
            else:
                part.load_state_dict(state[name])

    def _stateful(self) -> dict[str, Any]:
        names = ("generator", "discriminator", "ema", "generator_optimiser", "discriminator_optimiser", "scaler")
        return {name: part for name in names if (part := getattr(self, name)) is not None}


def make_state(
    config: TrainingConfig, device: torch.device, processes: DistributedContext = SINGLE_PROCESS
) -> TrainState:
    """Make networks and optimisers, the same in all processes. Raises UserError for a precision that is not there."""
    precision = choose_precision(config.trainer.precision, device, training=True)
    torch.manual_seed(derive_seed(config.seed, "networks"))
    # Channels last is the layout that convolutions are fastest in, on GPUs and on CPUs.
    layout = torch.channels_last
    generator = build_generator(config.generator, config.scale).to(device).to(memory_format=layout)
    if config.trainer.checkpoint_activations:
        generator.checkpoint_activations = True  # type: ignore[assignment]
    discriminator = None
    if needs_discriminator(config.loss):
        discriminator = build_discriminator(config.discriminator).to(device).to(memory_format=layout)
        discriminator = synchronise_batch_norm(discriminator, processes, device)
    torch.manual_seed(derive_seed(config.seed, "training", processes.rank))  # for networks that draw lots
    return TrainState(
        generator=generator,
        discriminator=discriminator,
        ema=None if config.trainer.ema is None else copy.deepcopy(generator).requires_grad_(False).eval(),
        generator_optimiser=make_adam(generator, config.optimiser),
        discriminator_optimiser=None if discriminator is None else make_adam(discriminator, config.optimiser),
        scaler=precision.scaler(),
        precision=precision,
    )


def make_adam(net: nn.Module, config: OptimiserConfig) -> torch.optim.Adam:
    """Return Adam over a network's parameters, all of them in one kernel."""
    return torch.optim.Adam(net.parameters(), config.learning_rate, (config.beta1, config.beta2), fused=True)
