"""Settings that cannot be trained with, found before hours of work rather than after."""

from realsr.core.errors import UserError
from realsr.core.ranges import check_ranges
from realsr.training.network_checks import check_networks
from realsr.training.schedule import check_optimiser
from realsr.training.settings import TrainerConfig, TrainingConfig


def check_settings(config: TrainingConfig, processes: int = 1) -> None:
    """Raise UserError for settings out of range, and for networks that cannot be made or do not take the crops."""
    check_trainer(config.trainer, processes)
    check_optimiser(config.optimiser)
    trainer, scale = config.trainer, config.scale
    if trainer.crop % scale:
        raise UserError(f"trainer.crop={trainer.crop}: expected a multiple of scale={scale}")
    discriminator = config.discriminator if config.loss.gan > 0 else None
    try:
        generator = check_networks(config.generator, discriminator, scale, trainer.crop, trainer.batch)
    except (ValueError, RuntimeError) as error:
        raise UserError(str(error)) from error
    if trainer.checkpoint_activations and not hasattr(generator, "checkpoint_activations"):
        raise UserError(
            f"trainer.checkpoint_activations=true: {type(generator).__name__} does not offer it (an attribute "
            "checkpoint_activations, see docs/extending.md); a smaller trainer.batch or trainer.accumulate=2 saves "
            "memory, too"
        )
    if config.loss.perceptual.weight > 0 and trainer.crop < 16:
        raise UserError(f"trainer.crop={trainer.crop}: the perceptual loss needs 16 or more")


def check_trainer(trainer: TrainerConfig, processes: int) -> None:
    """Raise UserError for the trainer's settings out of range, and a batch that cannot be shared out."""
    check_ranges(trainer, "trainer")
    if trainer.batch % (processes * trainer.accumulate):
        among = f"{processes} processes in " if processes > 1 else ""
        raise UserError(
            f"trainer.batch={trainer.batch} cannot be shared out among {among}trainer.accumulate={trainer.accumulate} "
            f"parts: expected a multiple of {processes * trainer.accumulate}"
        )
