"""The state of a training: networks, averaged weights, optimisers; and checks of its settings."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from realsr.core.components import Values, locate_error
from realsr.core.devices import Precision, choose_precision
from realsr.core.errors import UserError
from realsr.core.ranges import check_ranges
from realsr.core.seeding import derive_seed
from realsr.networks import build_discriminator, build_generator
from realsr.training.distributed import SINGLE_PROCESS, DistributedContext
from realsr.training.generator_loss import (
    LOGITS,
    ROOM,
    GeneratorLoss,
    check_loss,
    needs_discriminator,
)
from realsr.training.loss_terms.term import StepTensors
from realsr.training.settings import TrainingConfig, check_optimiser


@dataclass
class TrainState:
    """Networks, optimisers and precision of a training.

    networks: `generator`, and `discriminator` if a loss term reads logits. optimisers: of each
    network. ema: the averaged generator.
    """

    networks: dict[str, nn.Module]
    optimisers: dict[str, torch.optim.Adam]
    ema: nn.Module | None
    scaler: torch.amp.GradScaler
    precision: Precision

    @property
    def device(self) -> torch.device:
        """The device of networks and optimisers."""
        return self.precision.device

    @property
    def generator(self) -> nn.Module:
        """The trained generator."""
        return self.networks["generator"]

    @property
    def discriminator(self) -> nn.Module | None:
        """The discriminator, None without a loss term that reads logits."""
        return self.networks.get("discriminator")

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
            values = state[name]
            if isinstance(part, torch.optim.Optimizer):
                settings = part.state_dict()["param_groups"]
                values = {"state": values["state"], "param_groups": settings}
            part.load_state_dict(values)

    def _parts(self) -> dict[str, Any]:
        ema = {} if self.ema is None else {"ema": self.ema}
        optimisers = {f"{name}_optimiser": part for name, part in self.optimisers.items()}
        return {**self.networks, **ema, **optimisers, "scaler": self.scaler}


def make_state(
    config: TrainingConfig, device: torch.device, processes: DistributedContext = SINGLE_PROCESS
) -> TrainState:
    """Build networks and optimisers with equal weights in all processes.

    Raises UserError for a precision that the device does not support.
    """
    trainer, optimiser = config.trainer, config.optimiser
    precision = choose_precision(trainer.precision, device, training=True)
    torch.manual_seed(derive_seed(config.seed, "networks"))
    networks = {"generator": build_generator(config.generator, config.scale)}
    if trainer.checkpoint_activations:
        networks["generator"].checkpoint_activations = True  # type: ignore[assignment]
    if needs_discriminator(config.loss):
        networks["discriminator"] = build_discriminator(config.discriminator)
    for name, net in networks.items():
        # Channels last is the fastest layout for convolutions, on GPUs and on CPUs.
        networks[name] = net.to(device).to(memory_format=torch.channels_last)
    # Batch statistics over all processes need GPUs.
    if "discriminator" in networks and processes.world_size > 1 and device.type == "cuda":
        networks["discriminator"] = nn.SyncBatchNorm.convert_sync_batchnorm(
            networks["discriminator"]
        )
    ema = None
    if trainer.ema is not None:
        ema = copy.deepcopy(networks["generator"]).requires_grad_(False).eval()
    betas = optimiser.beta1, optimiser.beta2
    optimisers = {
        name: torch.optim.Adam(net.parameters(), optimiser.learning_rate, betas, fused=True)
        for name, net in networks.items()
    }
    # For networks that draw random numbers.
    torch.manual_seed(derive_seed(config.seed, "training", processes.rank))
    return TrainState(networks, optimisers, ema, precision.scaler(), precision)


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
    count, side = min(batch, 2), crop // scale  # two stand for more; batch norm refuses one
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        network, output = _try_network(
            generator, partial(build_generator, scale=scale), (count, 3, side, side)
        )
        name, shape = generator.get("name", ""), (count, 3, side * scale, side * scale)
        if not any(parameter.requires_grad for parameter in network.parameters()):
            raise UserError(f"generator {name}: has no trainable parameters")
        if not isinstance(output, Tensor) or output.shape != shape:
            raise UserError(
                f"generator {name}: it returned {_describe(output)} for images of "
                f"{(count, 3, side, side)}; at scale={scale} expected {shape} (N, 3, height, width)"
            )
        if discriminator is not None:
            shape = count, 3, crop, crop
            output = _try_network(discriminator, build_discriminator, shape)[1]
            if not (
                isinstance(output, Tensor)
                and output.is_floating_point()
                and output.shape[:1] == (count,)
                and output.numel() > 0
            ):
                raise UserError(
                    f"discriminator {discriminator.get('name', '')}: it returned "
                    f"{_describe(output)} for {count} images; expected logits for each image, a "
                    f"floating-point tensor ({count}, …)"
                )
    return network


def try_terms(loss: GeneratorLoss, config: TrainingConfig) -> None:
    """Compute each term once, for a gray SR of a black HR crop, except the package's slow ones.

    Does nothing in a training of several processes: a term may compute over all of them.

    Raises UserError if a term fails, or does not return a scalar whose gradient reaches SR.
    """
    if dist.is_initialized():
        return
    x = _make_step_tensors(loss, config)
    for key, term in loss.terms.items():
        text = f"loss.{key}: {type(term).__name__}"
        if not type(term).__module__.startswith(ROOM):
            _try_custom_term(term, x, text)
        elif not term.state_dict():  # else it has a classifier
            try:
                term(x)
            except UserError as error:
                raise UserError(f"{text}: {error}") from error


def _try_custom_term(term: nn.Module, x: StepTensors, text: str) -> None:
    """Raise UserError if a term does not fit; text: its key and class, for messages."""
    try:
        result = term(x)
        reaches_sr = _reaches(result, x.sr)
    except Exception as error:
        optional = [name for name in ("sr_ema", *sorted(LOGITS)) if getattr(x, name) is not None]
        raise UserError(
            f"{text} fails on crops of {tuple(x.hr.shape)}: {locate_error(error)}. It received lr, "
            f"hr, sr{''.join(f', {name}' for name in optional)}; what else a term reads, its class "
            "attribute needs must name"
        ) from error
    if not reaches_sr:
        output = _describe(result)
        if isinstance(result, Tensor) and not result.shape:
            output += " without a gradient with respect to sr"
        raise UserError(
            f"{text}: it returned {output}; expected a floating-point tensor of shape (), such as "
            "a mean, whose gradient reaches sr or fake_logits"
        )


def _make_step_tensors(loss: GeneratorLoss, config: TrainingConfig) -> StepTensors:
    """Return what terms receive in a step, with SR unlike HR, since a term may be constant at 0."""
    count, crop = config.trainer.batch, config.trainer.crop
    shape, side = (count, 3, crop, crop), crop // config.scale
    sr, real, fake = torch.full(shape, 0.5, requires_grad=True), None, None
    if loss.needs & LOGITS:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            logits: Any = _try_network(config.discriminator, build_discriminator, shape)[1]
        real = torch.zeros(logits.shape)
        fake = real + sr.mean()
    sr_ema = torch.zeros(shape) if "sr_ema" in loss.needs else None
    lr, hr = torch.zeros(count, 3, side, side), torch.zeros(shape)
    return StepTensors(lr, hr, sr, sr_ema, real, fake)


def _reaches(result: object, x: Tensor) -> bool:
    """Return whether a term's result is a floating-point scalar with a gradient that reaches x."""
    if not isinstance(result, Tensor) or result.shape or not result.requires_grad:
        return False
    gradient = torch.autograd.grad(result, x, retain_graph=True, allow_unused=True)
    return gradient[0] is not None


def _try_network(
    values: Values, build: Callable[[Values], nn.Module], shape: tuple[int, ...]
) -> tuple[nn.Module, object]:
    """Build a network, run it on black images of a shape, and return it and its output."""
    name = values.get("name", "")
    # A user's constructor may read values, which do not exist on the meta device.
    with torch.device("cpu" if "." in name else "meta"):
        network = build(values)
        try:
            return network, network(torch.zeros(shape))
        except Exception as error:
            if "." not in name:
                raise UserError(str(error)) from error
            raise UserError(
                f"{name}: failed on images of {shape}: {locate_error(error)}"
            ) from error


def _describe(output: object) -> str:
    if isinstance(output, Tensor):
        return f"a tensor {tuple(output.shape)} of {output.dtype}"
    return f"a {type(output).__name__}"
