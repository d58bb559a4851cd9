"""Settings and networks that cannot be trained with: found before hours of work."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from realsr.core.components import Values, locate_error
from realsr.core.errors import UserError
from realsr.core.ranges import check_ranges
from realsr.networks.build import build_discriminator, build_generator
from realsr.training.generator_loss import check_loss, needs_discriminator
from realsr.training.settings import TrainingConfig, check_optimiser


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
            f"trainer.checkpoint_activations=true: {type(generator).__name__} does not offer it (an attribute "
            "checkpoint_activations, see docs/extending.md); a smaller trainer.batch or trainer.accumulate=2 saves "
            "memory, too"
        )


def check_networks(generator: Values, discriminator: Values | None, scale: int, crop: int, batch: int) -> nn.Module:
    """Build the networks and run each once; no random number is spent. Return the generator, for its attributes.

    Raises UserError for networks that cannot be made, that do not take the crops, or whose outputs are not images
    `scale` times larger and logits for each image.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        name, side = generator.get("name", ""), crop // scale
        with _device(name):
            network = build_generator(generator, scale)
            if not any(parameter.requires_grad for parameter in network.parameters()):
                raise UserError(f"generator {name}: has no parameters to train")
            output = _run(name, network, torch.zeros(1, 3, side, side))
        expected = (1, 3, side * scale, side * scale)
        if not isinstance(output, Tensor) or output.shape != expected:
            raise UserError(
                f"generator {name}: given images of {_size((1, 3, side, side))}, it gave {_describe(output)}; "
                f"at scale={scale} expected {_size(expected)} (N x 3 x height x width)"
            )
        if discriminator is not None:
            name, count = discriminator.get("name", ""), min(batch, 2)  # batch norm refuses a single value
            with _device(name):
                output = _run(name, build_discriminator(discriminator), torch.zeros(count, 3, crop, crop))
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
        raise UserError(f"{name}: given images of {_size(images.shape)} it failed: {locate_error(error)}") from error


def _describe(output: object) -> str:
    if isinstance(output, Tensor):
        return f"a tensor of {_size(output.shape) or 'no dimensions'} ({str(output.dtype).removeprefix('torch.')})"
    return f"a {type(output).__name__}"


def _size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
