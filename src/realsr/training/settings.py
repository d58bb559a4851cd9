"""How a generator is trained; the defaults are the paper's (Ji et al. 2020, section 3.3 and 4.1)."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from realsr.core.ranges import Choice, Range


@dataclass
class OptimiserConfig:
    """Adam for generator and discriminator, and how the learning rate goes (`training.schedule`).

    schedule: `step` multiplies it by `decay` at each of `milestones`; `cosine` lets it fall to `final` in `period`
    steps, again and again. The fields of the other schedule are not used. Milestones and period are in steps.
    """

    learning_rate: Annotated[float, Range(0)] = 1e-4
    beta1: Annotated[float, Range(0, below=1)] = 0.9
    beta2: Annotated[float, Range(0, below=1)] = 0.999
    schedule: Annotated[str, Choice("step", "cosine")] = "step"
    milestones: list[Annotated[int, Range(1)]] = field(default_factory=lambda: [5000, 10000, 20000, 30000])
    decay: Annotated[float, Range(above=0, maximum=1)] = 0.5
    period: Annotated[int, Range(1)] = 250000
    final: Annotated[float, Range(0)] = 1e-7


@dataclass
class TrainerConfig:
    """Length, batches, arithmetic and rhythm of a training. Intervals are in steps, sides in HR pixels."""

    max_steps: Annotated[int, Range(1)] = 60000
    batch: Annotated[int, Range(1)] = 16
    crop: Annotated[int, Range(1)] = 128
    ema: Annotated[float, Range(0, below=1)] | None = 0.999
    workers: Annotated[int, Range(0)] = 4
    data_timeout: Annotated[float, Range(1)] = 55.0
    cache: bool = True
    device: str = "auto"
    precision: Annotated[str, Choice("auto", "bf16", "fp16", "tf32", "fp32")] = "auto"
    compile: bool | None = None
    accumulate: Annotated[int, Range(1)] = 1
    checkpoint_activations: bool = False
    profile: bool = False
    max_skipped: Annotated[int, Range(0)] = 10
    log_every: Annotated[int, Range(1)] = 100
    validate_every: Annotated[int, Range(1)] = 5000
    checkpoint_every: Annotated[int, Range(1)] = 1000
    keep_checkpoints: Annotated[int, Range(1)] = 2
    validation_crop: Annotated[int, Range(1)] = 512
    validation_images: Annotated[int, Range(0)] = 16
    best_by: Annotated[str, Choice("psnr", "ssim", "lpips")] = "psnr"
    lpips_weights: Path | None = None
    allow_changes: bool = False


@dataclass
class TrainingConfig:
    """All that a training is made of, beside its data; networks and loss are components' values."""

    generator: dict[str, Any]
    discriminator: dict[str, Any]
    loss: dict[str, Any]
    optimiser: OptimiserConfig
    trainer: TrainerConfig
    scale: int = 4
    seed: int = 0
    init: str | None = None
