"""What is trained and by what: networks, averaged weights, optimisers."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from realsr.core.precision import Precision, choose_precision
from realsr.core.seeding import derive_seed
from realsr.networks.build import build_discriminator, build_generator
from realsr.training.distributed import SINGLE_PROCESS, DistributedContext
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
        """The device of networks and optimisers."""
        return self.precision.device

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The networks that are trained, by name."""
        networks = {"generator": self.generator, "discriminator": self.discriminator}
        return {name: net for name, net in networks.items() if net is not None}

    @property
    def optimisers(self) -> list[torch.optim.Adam]:
        """The optimisers of the networks."""
        return [o for o in (self.generator_optimiser, self.discriminator_optimiser) if o is not None]

    def gradients(self) -> dict[str, Tensor]:
        """Return the gradients as `gradient/<network>/<parameter>`."""
        return {
            f"gradient/{name}/{key}": parameter.grad
            for name, net in self.networks.items()
            for key, parameter in net.named_parameters()
            if parameter.grad is not None
        }

    @torch.no_grad()
    def update_ema(self, decay: float) -> None:
        """Move the averaged weights towards the generator's: ema = decay ema + (1 - decay) generator."""
        if self.ema is None:
            return
        averages, parameters = list[Tensor](self.ema.parameters()), list[Tensor](self.generator.parameters())
        torch._foreach_lerp_(averages, parameters, 1 - decay)
        for copied, buffer in zip(self.ema.buffers(), self.generator.buffers(), strict=True):
            copied.copy_(buffer)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of each part, by name, for a checkpoint."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the state of each part; of an optimiser only its moments, since the config sets its options.

        Raises KeyError, RuntimeError or ValueError where the state is of other parts.
        """
        for name, part in self._parts().items():
            if isinstance(part, torch.optim.Optimizer):
                part.load_state_dict({"state": state[name]["state"], "param_groups": part.state_dict()["param_groups"]})
            else:
                part.load_state_dict(state[name])

    def _parts(self) -> dict[str, Any]:
        names = ("generator", "discriminator", "ema", "generator_optimiser", "discriminator_optimiser", "scaler")
        return {name: part for name in names if (part := getattr(self, name)) is not None}


def make_state(
    config: TrainingConfig, device: torch.device, processes: DistributedContext = SINGLE_PROCESS
) -> TrainState:
    """Make networks and optimisers, the same in all processes. Raises UserError for a precision the device lacks."""
    precision = choose_precision(config.trainer.precision, device, training=True)
    torch.manual_seed(derive_seed(config.seed, "networks"))
    # Channels last is the fastest layout for convolutions, on GPUs and on CPUs.
    layout = torch.channels_last
    generator = build_generator(config.generator, config.scale).to(device).to(memory_format=layout)
    if config.trainer.checkpoint_activations:
        generator.checkpoint_activations = True  # type: ignore[assignment]
    discriminator = None
    if needs_discriminator(config.loss):
        discriminator = build_discriminator(config.discriminator).to(device).to(memory_format=layout)
        if processes.world_size > 1 and device.type == "cuda":  # batch statistics over all processes need GPUs
            discriminator = nn.SyncBatchNorm.convert_sync_batchnorm(discriminator)
    torch.manual_seed(derive_seed(config.seed, "training", processes.rank))  # for networks that draw random numbers
    return TrainState(
        generator=generator,
        discriminator=discriminator,
        ema=None if config.trainer.ema is None else copy.deepcopy(generator).requires_grad_(False).eval(),
        generator_optimiser=_make_adam(generator, config.optimiser),
        discriminator_optimiser=None if discriminator is None else _make_adam(discriminator, config.optimiser),
        scaler=precision.scaler(),
        precision=precision,
    )


def _make_adam(net: nn.Module, config: OptimiserConfig) -> torch.optim.Adam:
    return torch.optim.Adam(net.parameters(), config.learning_rate, (config.beta1, config.beta2), fused=True)
