"""Learning rate and decay of averages as functions of the steps done: no state to save, none to go wrong."""

import math

from realsr.core.errors import UserError
from realsr.core.ranges import check_ranges
from realsr.training.settings import OptimiserConfig


def learning_rate(steps_done: int, config: OptimiserConfig) -> float:
    """Return the learning rate of the step that follows `steps_done` (0 for the first).

    `step`, with n the number of milestones <= steps_done:
        rate = learning_rate * decay^n
    `cosine` with warm restarts (Loshchilov and Hutter, SGDR, ICLR 2017, equation 5), with t = steps_done modulo period:
        rate = final + (learning_rate - final) * (1 + cos(pi * t / period)) / 2
    """
    if config.schedule == "step":
        return config.learning_rate * config.decay ** sum(steps_done >= milestone for milestone in config.milestones)
    phase = steps_done % config.period / config.period
    return config.final + (config.learning_rate - config.final) * (1 + math.cos(math.pi * phase)) / 2


def ema_decay(steps_done: int, highest: float) -> float:
    """Return how much of the averaged weights stays in the step that follows: it rises to `highest`.

    (1 + n) / (10 + n) after n steps, as TensorFlow's ExponentialMovingAverage has it: the average is over the last
    tenth of a short training and not over its beginning.
    """
    return min(highest, (1 + steps_done) / (10 + steps_done))


def check_optimiser(config: OptimiserConfig) -> None:
    """Raise UserError for values that are no optimiser or no schedule."""
    check_ranges(config, "optimiser")
    milestones = config.milestones
    ascending = all(a < b for a, b in zip([0, *milestones], milestones, strict=False))
    rules = [
        ("milestones", ascending, "steps above 0 in ascending order, e.g. [5000,10000]"),
        ("final", config.schedule != "cosine" or config.final <= config.learning_rate, "at most the learning_rate"),
    ]
    for key, holds, expected in rules:
        if not holds:
            raise UserError(f"optimiser.{key}={getattr(config, key)}: expected {expected}")
