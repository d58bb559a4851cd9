"""The settings of a training, and its schedules of learning rate and averaging."""

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from realsr.core.errors import UserError
from realsr.core.ranges import Choice, Range, check_ranges


@dataclass
class OptimiserConfig:
    """Settings of Adam for both networks, and the schedule of the learning rate (`learning_rate`).

    `step` uses `milestones` and `decay`, `cosine` uses `period` and `final`. Milestones, period and
    warmup are in steps.
    """

    learning_rate: Annotated[float, Range(0)]
    beta1: Annotated[float, Range(0, below=1)]
    beta2: Annotated[float, Range(0, below=1)]
    schedule: Annotated[str, Choice("step", "cosine")]
    milestones: list[Annotated[int, Range(1)]]
    decay: Annotated[float, Range(above=0, maximum=1)]
    period: Annotated[int, Range(1)]
    final: Annotated[float, Range(0)]
    warmup: Annotated[int, Range(0)]
    max_gradient_norm: Annotated[float, Range(above=0)] | None


@dataclass
class TrainerConfig:
    """Length, batches, arithmetic and intervals of a training; in steps and HR pixels."""

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
    """All settings of a training but its data; networks and loss are values of components."""

    generator: dict[str, Any]
    discriminator: dict[str, Any]
    loss: dict[str, Any]
    optimiser: OptimiserConfig
    trainer: TrainerConfig
    scale: int
    seed: int
    init: str | None
    tracker: dict[str, Any]


def learning_rate(steps_done: int, config: OptimiserConfig) -> float:
    """Return the learning rate of the step that follows `steps_done` (0 for the first).

    `step`, with n the number of milestones <= steps_done:
        rate = learning_rate * decay^n
    `cosine` with warm restarts (Loshchilov and Hutter, SGDR, ICLR 2017, equation 5), with
    t = steps_done modulo period:
        rate = final + (learning_rate - final) * (1 + cos(pi * t / period)) / 2
    With `warmup` above 0, the rate is multiplied by min(1, (steps_done + 1) / warmup).
    """
    warmup = min(1.0, (steps_done + 1) / max(1, config.warmup))
    if config.schedule == "step":
        passed = sum(steps_done >= milestone for milestone in config.milestones)
        return warmup * config.learning_rate * config.decay**passed
    phase = steps_done % config.period / config.period
    share = (1 + math.cos(math.pi * phase)) / 2
    return warmup * (config.final + (config.learning_rate - config.final) * share)


def ema_decay(steps_done: int, maximum: float) -> float:
    """Return the decay of the averaged weights in the step that follows.

    (1 + n) / (10 + n) after n steps, as in TensorFlow's ExponentialMovingAverage, at most
    `maximum`: in a short training, the average is over its last tenth.
    """
    return min(maximum, (1 + steps_done) / (10 + steps_done))


def check_optimiser(config: OptimiserConfig) -> None:
    """Raise UserError for values out of range."""
    check_ranges(config, "optimiser")
    if not all(a < b for a, b in pairwise([0, *config.milestones])):
        raise UserError(
            f"optimiser.milestones={config.milestones}: expected ascending steps above 0, e.g. "
            "[5000,10000]"
        )
    if config.schedule == "cosine" and config.final > config.learning_rate:
        raise UserError(
            f"optimiser.final={config.final}: expected at most "
            f"optimiser.learning_rate={config.learning_rate}"
        )
