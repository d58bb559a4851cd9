"""The state of a training: networks, averaged weights, optimisers; and checks of its settings."""

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from realsr.core.components import Values, locate_error
from realsr.core.devices import Precision, choose_precision
from realsr.core.errors import UserError
from realsr.core.ranges import check_ranges
from realsr.core.seeding import derive_seed
from realsr.networks.build import build_discriminator, build_generator
from realsr.training.distributed import SINGLE_PROCESS, DistributedContext
from realsr.training.generator_loss import check_loss, needs_discriminator
from realsr.training.settings import OptimiserConfig, TrainingConfig, check_optimiser


@dataclass
class TrainState:
    """Networks, optimisers and precision of a training.

    ema: the averaged generator. Without a loss term that reads logits there is no discriminator.
    """

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
        """The trained networks by name."""
        networks = {"generator": self.generator, "discriminator": self.discriminator}
        return {name: net for name, net in networks.items() if net is not None}

    @property
    def optimisers(self) -> list[torch.optim.Adam]:
        """The optimisers of the networks."""
        return [
            o for o in (self.generator_optimiser, self.discriminator_optimiser) if o is not None
        ]

    # Cached, since traversing a thousand modules takes 0.5 ms, and a step on a GPU is short.

    @cached_property
    def buffers(self) -> list[Tensor]:
        """The networks' buffers, which a forward pass may change."""
        return [buffer for net in self.networks.values() for buffer in net.buffers()]

    @cached_property
    def _parameters(self) -> dict[str, nn.Parameter]:
        return {
            f"gradient/{name}/{key}": parameter
            for name, net in self.networks.items()
            for key, parameter in net.named_parameters()
        }

    @cached_property
    def _averages(self) -> tuple[list[Tensor], list[Tensor]]:
        assert self.ema is not None
        return list(self.ema.parameters()), list(self.generator.parameters())

    def gradients(self) -> dict[str, Tensor]:
        """Return the gradients as `gradient/<network>/<parameter>`."""
        return {name: p.grad for name, p in self._parameters.items() if p.grad is not None}

    @torch.no_grad()
    def update_ema(self, decay: float) -> None:
        """Update the averaged weights: ema = decay * ema + (1 - decay) * generator."""
        if self.ema is None:
            return
        averages, parameters = self._averages
        torch._foreach_lerp_(averages, parameters, 1 - decay)
        for average, buffer in zip(self.ema.buffers(), self.generator.buffers(), strict=True):
            average.copy_(buffer)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of each part, by name, for a checkpoint."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the state of each part; of optimisers only the moments, not the settings.

        Raises KeyError, RuntimeError or ValueError if the state is of other parts.
        """
        for name, part in self._parts().items():
            if isinstance(part, torch.optim.Optimizer):
                part.load_state_dict(
                    {
                        "state": state[name]["state"],
                        "param_groups": part.state_dict()["param_groups"],
                    }
                )
            else:
                part.load_state_dict(state[name])

    def _parts(self) -> dict[str, Any]:
        names = (
            "generator",
            "discriminator",
            "ema",
            "generator_optimiser",
            "discriminator_optimiser",
            "scaler",
        )
        return {name: part for name in names if (part := getattr(self, name)) is not None}


def make_state(
    config: TrainingConfig, device: torch.device, processes: DistributedContext = SINGLE_PROCESS
) -> TrainState:
    """Build networks and optimisers with equal weights in all processes.

    Raises UserError for a precision that the device does not support.
    """
    precision = choose_precision(config.trainer.precision, device, training=True)
    torch.manual_seed(derive_seed(config.seed, "networks"))
    # Channels last is the fastest layout for convolutions, on GPUs and on CPUs.
    layout = torch.channels_last
    generator = build_generator(config.generator, config.scale).to(device).to(memory_format=layout)
    if config.trainer.checkpoint_activations:
        generator.checkpoint_activations = True  # type: ignore[assignment]
    discriminator = None
    if needs_discriminator(config.loss):
        discriminator = build_discriminator(config.discriminator)
        discriminator = discriminator.to(device).to(memory_format=layout)
        # Batch statistics over all processes need GPUs.
        if processes.world_size > 1 and device.type == "cuda":
            discriminator = nn.SyncBatchNorm.convert_sync_batchnorm(discriminator)
    ema = None
    if config.trainer.ema is not None:
        ema = copy.deepcopy(generator).requires_grad_(False).eval()
    # For networks that draw random numbers.
    torch.manual_seed(derive_seed(config.seed, "training", processes.rank))
    return TrainState(
        generator=generator,
        discriminator=discriminator,
        ema=ema,
        generator_optimiser=_make_adam(generator, config.optimiser),
        discriminator_optimiser=None
        if discriminator is None
        else _make_adam(discriminator, config.optimiser),
        scaler=precision.scaler(),
        precision=precision,
    )


def _make_adam(net: nn.Module, config: OptimiserConfig) -> torch.optim.Adam:
    return torch.optim.Adam(
        net.parameters(), config.learning_rate, (config.beta1, config.beta2), fused=True
    )


def check_settings(config: TrainingConfig, processes: int = 1) -> None:
    """Raise UserError for settings out of range and unsuitable networks (see `check_networks`)."""
    trainer, scale = config.trainer, config.scale
    check_ranges(trainer, "trainer")
    check_optimiser(config.optimiser)
    if trainer.batch % (processes * trainer.accumulate):
        among = f"{processes} processes in " if processes > 1 else ""
        raise UserError(
            f"trainer.batch={trainer.batch} cannot be divided among "
            f"{among}trainer.accumulate={trainer.accumulate} parts: expected a multiple of "
            f"{processes * trainer.accumulate}"
        )
    if trainer.crop % scale:
        multiple = max(trainer.crop // scale, 1) * scale
        raise UserError(
            f"trainer.crop={trainer.crop}: expected a multiple of scale={scale}: "
            f"set trainer.crop={multiple}"
        )
    check_loss(config.loss, trainer.crop, trainer.ema)
    discriminator = config.discriminator if needs_discriminator(config.loss) else None
    generator = check_networks(config.generator, discriminator, scale, trainer.crop, trainer.batch)
    if trainer.checkpoint_activations and not hasattr(generator, "checkpoint_activations"):
        raise UserError(
            f"trainer.checkpoint_activations=true: {type(generator).__name__} has no attribute "
            "checkpoint_activations (see docs/extend/extending.md): to save memory, set a smaller "
            "trainer.batch or trainer.accumulate=2"
        )


def check_networks(
    generator: Values, discriminator: Values | None, scale: int, crop: int, batch: int
) -> nn.Module:
    """Build the networks, run each once and return the generator; the random state is unchanged.

    Raises UserError if a network cannot be built or does not accept the crops, or if the output is
    not images `scale` times as large, or logits for each image.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        name, side = generator.get("name", ""), crop // scale
        count = min(batch, 2)  # two stand for more; batch norm refuses one
        with _device(name):
            network = build_generator(generator, scale)
            if not any(parameter.requires_grad for parameter in network.parameters()):
                raise UserError(f"generator {name}: has no trainable parameters")
            output = _run(name, network, torch.zeros(count, 3, side, side))
        inputs, shape = (count, 3, side, side), (count, 3, side * scale, side * scale)
        if not isinstance(output, Tensor) or output.shape != shape:
            raise UserError(
                f"generator {name}: it returned {_describe(output)} for images of {inputs}; at "
                f"scale={scale} expected {shape} (N, 3, height, width)"
            )
        if discriminator is not None:
            name = discriminator.get("name", "")
            with _device(name):
                network_d = build_discriminator(discriminator)
                output = _run(name, network_d, torch.zeros(count, 3, crop, crop))
            if not _is_logits(output, count):
                raise UserError(
                    f"discriminator {name}: it returned {_describe(output)} for {count} images; "
                    f"expected logits for each image, a floating-point tensor ({count}, …)"
                )
    return network


def _device(name: str) -> torch.device:
    # A user's constructor may read values, which do not exist on the meta device.
    return torch.device("cpu" if "." in name else "meta")


def _run(name: str, network: nn.Module, images: Tensor) -> object:
    try:
        return network(images)
    except Exception as error:
        if "." not in name:
            raise UserError(str(error)) from error
        raise UserError(
            f"{name}: failed on images of {tuple(images.shape)}: {locate_error(error)}"
        ) from error


def _is_logits(output: object, count: int) -> bool:
    if not isinstance(output, Tensor) or not output.is_floating_point():
        return False
    return output.shape[:1] == (count,) and output.numel() > 0


def _describe(output: object) -> str:
    if isinstance(output, Tensor):
        return f"a tensor {tuple(output.shape)} of {output.dtype}"
    return f"a {type(output).__name__}"
