"""How a generator is trained; the defaults are the paper's (Ji et al. 2020, section 3.3 and 4.1)."""

from dataclasses import dataclass, field
from pathlib import Path

from realsr.networks import DiscriminatorConfig, GeneratorConfig
from realsr.training.losses import LossConfig


@dataclass
class OptimiserConfig:
    """Adam for generator and discriminator, and how the learning rate goes (`training.schedule`).

    schedule: `step` multiplies it by `decay` at each of `milestones`; `cosine` lets it fall to `final` in `period`
    steps, again and again. The fields of the other schedule are not used. Milestones and period are in steps.
    """

    learning_rate: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.999
    schedule: str = "step"
    milestones: list[int] = field(default_factory=lambda: [5000, 10000, 20000, 30000])
    decay: float = 0.5
    period: int = 250000
    final: float = 1e-7


@dataclass
class TrainerConfig:
    """Length, batches, arithmetic and rhythm of a training. Intervals are in steps, sides in HR pixels."""

    max_steps: int = 60000
    batch: int = 16
    crop: int = 128
    ema: float | None = 0.999
    workers: int = 4
    data_timeout: float = 55.0
    cache: bool = True
    device: str = "auto"
    precision: str = "auto"
    compile: bool | None = None
    accumulate: int = 1
    checkpoint_activations: bool = False
    profile: bool = False
    max_skipped: int = 10
    log_every: int = 100
    validate_every: int = 5000
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    validation_crop: int = 512
    validation_images: int = 16
    best_by: str = "psnr"
    lpips_weights: Path | None = None
    allow_changes: bool = False


@dataclass
class TrainingConfig:
    """All that a training is made of, beside its data."""

    generator: GeneratorConfig
    discriminator: DiscriminatorConfig
    loss: LossConfig
    optimiser: OptimiserConfig
    trainer: TrainerConfig
    scale: int = 4
    seed: int = 0
    init: str | None = None
