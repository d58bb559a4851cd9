"""How a generator is trained; the defaults are the paper's (Ji et al. 2020, section 3.3 and 4.1)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from realsr.core.ranges import Choice, Range


@dataclass
class OptimiserConfig:
    """Adam for generator and discriminator, and how the learning rate goes (`training.schedule`).

    schedule: `step` multiplies it by `decay` at each of `milestones`; `cosine` lets it fall to `final` in `period`
    steps, again and again. The fields of the other schedule are not used. Milestones and period are in steps.
    """

    learning_rate: Annotated[float, Range(0)]
    beta1: Annotated[float, Range(0, below=1)]
    beta2: Annotated[float, Range(0, below=1)]
    schedule: Annotated[str, Choice("step", "cosine")]
    milestones: list[Annotated[int, Range(1)]]
    decay: Annotated[float, Range(above=0, maximum=1)]
    period: Annotated[int, Range(1)]
    final: Annotated[float, Range(0)]


@dataclass
class TrainerConfig:
    """Length, batches, arithmetic and rhythm of a training. Intervals are in steps, sides in HR pixels."""

    max_steps: Annotated[int, Range(1)]
    batch: Annotated[int, Range(1)]
    crop: Annotated[int, Range(1)]
    ema: Annotated[float, Range(0, below=1)] | None
    workers: Annotated[int, Range(0)]
    data_timeout: Annotated[float, Range(1)]
    cache: bool
    device: str
    precision: Annotated[str, Choice("auto", "bf16", "fp16", "tf32", "fp32")]
    compile: bool | None
    accumulate: Annotated[int, Range(1)]
    checkpoint_activations: bool
    profile: bool
    max_skipped: Annotated[int, Range(0)]
    log_every: Annotated[int, Range(1)]
    validate_every: Annotated[int, Range(1)]
    checkpoint_every: Annotated[int, Range(1)]
    keep_checkpoints: Annotated[int, Range(1)]
    validation_crop: Annotated[int, Range(1)]
    validation_images: Annotated[int, Range(0)]
    best_by: Annotated[str, Choice("psnr", "ssim", "lpips")]
    lpips_weights: Path | None
    allow_changes: bool


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
