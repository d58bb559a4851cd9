"""Settings that cannot be trained with, found before hours of work rather than after."""

from realsr.errors import UserError
from realsr.networks import DiscriminatorConfig, GeneratorConfig
from realsr.training.config import TrainerConfig
from realsr.training.losses import LossConfig
from realsr.training.network_checks import check_networks

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
        check_networks(generator, discriminator if loss.gan > 0 else None, scale, trainer.crop, trainer.batch)
    except (ValueError, RuntimeError) as error:
        raise UserError(str(error)) from error
    if loss.perceptual.weight > 0 and trainer.crop < 16:
        raise UserError(f"trainer.crop={trainer.crop}: the perceptual loss needs 16 or more")
