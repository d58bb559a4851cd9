"""Settings that cannot be trained with, found before hours of work rather than after."""

import torch

from realsr.errors import UserError
from realsr.networks import DiscriminatorConfig, GeneratorConfig, build_discriminator, build_generator
from realsr.training.config import TrainerConfig
from realsr.training.losses import LossConfig

# Numbers of TrainerConfig -> the lowest that makes sense.
LOWEST = {"max_steps": 1, "batch": 1, "crop": 1, "workers": 0, "log_every": 1, "validate_every": 1,
          "checkpoint_every": 1, "keep_checkpoints": 1, "validation_crop": 1, "validation_images": 0}  # fmt: skip


def check_settings(
    generator: GeneratorConfig,
    discriminator: DiscriminatorConfig,
    loss: LossConfig,
    trainer: TrainerConfig,
    scale: int,
) -> None:
    """Raise UserError for numbers out of range, and for networks that cannot be made or do not take the crops."""
    for name, lowest in LOWEST.items():
        if (value := getattr(trainer, name)) < lowest:
            raise UserError(f"trainer.{name}={value}: expected {lowest} or more")
    try:
        with torch.device("meta"):  # shapes only
            generator_network = build_generator(generator, scale)
            if trainer.crop % scale:
                raise UserError(f"trainer.crop={trainer.crop}: expected a multiple of scale={scale}")
            side = trainer.crop // scale
            generator_network(torch.zeros(1, 3, side, side))
            if loss.gan > 0:
                build_discriminator(discriminator)(torch.zeros(trainer.batch, 3, trainer.crop, trainer.crop))
    except (ValueError, RuntimeError) as error:
        raise UserError(str(error)) from error
    if loss.perceptual.weight > 0 and trainer.crop < 16:
        raise UserError(f"trainer.crop={trainer.crop}: the perceptual loss needs 16 or more")
