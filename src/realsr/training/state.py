"""What is trained and by what: networks, averaged weights, optimisers; and what cannot be trained with."""

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
        return [
            o for o in (self.generator_optimiser, self.discriminator_optimiser) if o is not None
        ]

    # Cached: to walk through a thousand modules takes half a millisecond, and a step on a GPU is short.

    @cached_property
    def buffers(self) -> list[Tensor]:
        """The buffers of the networks, which a forward pass may change."""
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
        """Move the averaged weights towards the generator's: ema = decay ema + (1 - decay) generator."""
        if self.ema is None:
            return
        averages, parameters = self._averages
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
        discriminator = (
            build_discriminator(config.discriminator).to(device).to(memory_format=layout)
        )
        if (
            processes.world_size > 1 and device.type == "cuda"
        ):  # batch statistics over all processes need GPUs
            discriminator = nn.SyncBatchNorm.convert_sync_batchnorm(discriminator)
    torch.manual_seed(
        derive_seed(config.seed, "training", processes.rank)
    )  # for networks that draw random numbers
    return TrainState(
        generator=generator,
        discriminator=discriminator,
        ema=None
        if config.trainer.ema is None
        else copy.deepcopy(generator).requires_grad_(False).eval(),
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
    """Raise UserError for settings out of range, and for networks that cannot be made or do not take the crops."""
    trainer, scale = config.trainer, config.scale
    check_ranges(trainer, "trainer")
    check_optimiser(config.optimiser)
    if trainer.batch % (processes * trainer.accumulate):
        among = f"{processes} processes in " if processes > 1 else ""
        raise UserError(
            f"trainer.batch={trainer.batch} cannot be shared out among {among}trainer.accumulate={trainer.accumulate} "
            f"parts: expected a multiple of {processes * trainer.accumulate}"
        )
    if trainer.crop % scale:
        raise UserError(f"trainer.crop={trainer.crop}: expected a multiple of scale={scale}")
    check_loss(config.loss, trainer.crop, trainer.ema)
    discriminator = config.discriminator if needs_discriminator(config.loss) else None
    generator = check_networks(config.generator, discriminator, scale, trainer.crop, trainer.batch)
    if trainer.checkpoint_activations and not hasattr(generator, "checkpoint_activations"):
        raise UserError(
            f"trainer.checkpoint_activations=true: {type(generator).__name__} has no attribute checkpoint_activations, "
            "see docs/extend/extending.md: set a smaller trainer.batch or trainer.accumulate=2 to save memory"
        )


def check_networks(
    generator: Values, discriminator: Values | None, scale: int, crop: int, batch: int
) -> nn.Module:
    """Build the networks and run each once; no random number is spent. Return the generator, for its attributes.

    Raises UserError for networks that cannot be made, that do not take the crops, or whose outputs are not images
    `scale` times larger and logits for each image.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        name, side = generator.get("name", ""), crop // scale
        count = min(batch, 2)  # two stand for more; batch norm refuses one
        with _device(name):
            network = build_generator(generator, scale)
            if not any(parameter.requires_grad for parameter in network.parameters()):
                raise UserError(f"generator {name}: has no parameters to train")
            output = _run(name, network, torch.zeros(count, 3, side, side))
        inputs, expected = (count, 3, side, side), (count, 3, side * scale, side * scale)
        if not isinstance(output, Tensor) or output.shape != expected:
            raise UserError(
                f"generator {name}: given images of {inputs}, it gave {_describe(output)}; at scale={scale} expected "
                f"{expected} (N, 3, height, width)"
            )
        if discriminator is not None:
            name = discriminator.get("name", "")
            with _device(name):
                output = _run(
                    name, build_discriminator(discriminator), torch.zeros(count, 3, crop, crop)
                )
            is_tensor = isinstance(output, Tensor) and output.is_floating_point()
            if not is_tensor or output.shape[:1] != (count,) or not output.numel():  # type: ignore[attr-defined]
                raise UserError(
                    f"discriminator {name}: given {count} images, it gave {_describe(output)}; expected logits for "
                    f"each image, a floating-point tensor ({count}, …)"
                )
    return network


def _device(name: str) -> torch.device:
    # The user's code may read values while it is built, of which the meta device has none.
    return torch.device("cpu" if "." in name else "meta")


def _run(name: str, network: nn.Module, images: Tensor) -> object:
    try:
        return network(images)
    except Exception as error:
        if "." not in name:
            raise UserError(str(error)) from error
        raise UserError(
            f"{name}: given images of {tuple(images.shape)} it failed: {locate_error(error)}"
        ) from error


def _describe(output: object) -> str:
    if isinstance(output, Tensor):
        return f"a tensor {tuple(output.shape)} of {output.dtype}"
    return f"a {type(output).__name__}"
