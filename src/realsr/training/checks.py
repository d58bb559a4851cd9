"""Settings and networks, the user's own above all, that cannot be trained with: found before hours of work."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from realsr.core.components import Values, locate_error
from realsr.core.errors import UserError
from realsr.core.ranges import check_ranges
from realsr.networks.build import build_discriminator, build_generator
from realsr.training.generator_loss import check_loss, needs_discriminator
from realsr.training.schedule import check_optimiser
from realsr.training.settings import TrainerConfig, TrainingConfig


def check_settings(config: TrainingConfig, processes: int = 1) -> None:
    """Raise UserError for settings out of range, and for networks that cannot be made or do not take the crops."""
    check_trainer(config.trainer, processes)
    check_optimiser(config.optimiser)
    trainer, scale = config.trainer, config.scale
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


def check_trainer(trainer: TrainerConfig, processes: int) -> None:
    """Raise UserError for the trainer's settings out of range, and a batch that cannot be shared out."""
    check_ranges(trainer, "trainer")
    if trainer.batch % (processes * trainer.accumulate):
        among = f"{processes} processes in " if processes > 1 else ""
        raise UserError(
            f"trainer.batch={trainer.batch} cannot be shared out among {among}trainer.accumulate={trainer.accumulate} "
            f"parts: expected a multiple of {processes * trainer.accumulate}"
        )


def check_networks(generator: Values, discriminator: Values | None, scale: int, crop: int, batch: int) -> nn.Module:
    """Build the networks, run each once and look at the shapes; no chance is used up. Return the generator, to look at.

    Raises UserError for networks that cannot be made, that do not take the crops, or give something
    else than images `scale` times larger and logits by image.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        name = generator.get("name", "")
        with _device(name):
            network = build_generator(generator, scale)
            if not any(parameter.requires_grad for parameter in network.parameters()):
                raise UserError(f"generator {name}: has no parameters to train")
            images = torch.zeros(1, 3, crop // scale, crop // scale)
            check_generator_output(name, _run(name, network, images), images, scale)
        if discriminator is not None:
            name = discriminator.get("name", "")
            with _device(name):
                # Two stand for any number of images: what batch norm refuses is one value.
                images = torch.zeros(min(batch, 2), 3, crop, crop)
                critic = build_discriminator(discriminator)
                check_logits(name, _run(name, critic, images), len(images))
    return network


def _run(name: str, network: nn.Module, images: Tensor) -> object:
    try:
        return network(images)
    except Exception as error:
        if "." not in name:
            raise UserError(str(error)) from error
        raise UserError(f"{name}: given images of {_size(images.shape)} it failed: {locate_error(error)}") from error


def check_generator_output(name: str, output: object, images: Tensor, scale: int) -> None:
    """Raise UserError for an output that is not as many images, `scale` times larger than those given."""
    count, channels, height, width = images.shape
    expected = (count, channels, height * scale, width * scale)
    if not isinstance(output, Tensor) or tuple(output.shape) != expected:
        raise UserError(
            f"generator {name}: given images of {_size(images.shape)}, it gave {_describe(output)}; "
            f"at scale={scale} expected {_size(expected)} (N x 3 x height x width)"
        )


def check_logits(name: str, output: object, count: int) -> None:
    """Raise UserError for an output that is no floating-point tensor of logits, one or more for each image."""
    if not isinstance(output, Tensor) or not output.is_floating_point() or output.ndim < 1:
        raise UserError(f"discriminator {name}: gave {_describe(output)}; expected a tensor of logits, image by image")
    if output.shape[0] != count or not output.numel():
        raise UserError(
            f"discriminator {name}: given {count} images, it gave {_describe(output)}; expected logits for each image, "
            f"({count}, …)"
        )


def _device(name: str) -> torch.device:
    # Shapes only, for those known to work so; other code may look at values while it is built.
    return torch.device("cpu" if "." in name else "meta")


def _describe(output: object) -> str:
    if isinstance(output, Tensor):
        return f"a tensor of {_size(output.shape) or 'no dimensions'} ({str(output.dtype).removeprefix('torch.')})"
    return f"a {type(output).__name__}"


def _size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
