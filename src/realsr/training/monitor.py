"""What is seen of the steps on the host: values that are not finite, networks that collapse, wishes to stop."""

import logging
import math
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from realsr.core.errors import UserError
from realsr.training.step import Outcome

logger = logging.getLogger("realsr")

SATURATED_STEPS = 500  # steps in a row with the discriminator's accuracy at an end
SATURATED_WITHIN = 0.005  # of 0 or 1
MEMORY = 100  # steps that the variance is averaged over
FALLEN = 0.5  # of the variance ratio that SR had


@dataclass
class Memory:
    """What the monitor remembers of the steps before; part of a checkpoint."""

    skipped: int = 0  # steps in a row
    pinned: int = 0  # steps in a row with the accuracy at an end
    ratio: float | None = None  # moving average of the variance of SR by that of HR
    highest: float = 0.0  # that it has had, 1 at most
    fallen: bool = False  # which has been told


class TrainingMonitor:
    """Follows the steps of a training, one step behind on a GPU, so that it never has to wait.

    Attributes:
        latest: the values of the step seen last, by name.
        stop: whether a process has been asked to stop; all processes see it at the same step.
    """

    def __init__(self, max_skipped: int, scaler: torch.amp.GradScaler):
        self.latest: dict[str, float] = {}
        self.stop = False
        self._max_skipped, self._scaler = max_skipped, scaler
        self._memory = Memory()
        self._pending: tuple[int, list[str], Tensor, torch.cuda.Event | None] | None = None

    def follow(self, step: int, outcome: Outcome) -> None:
        """See the step before, and fetch the values of this one. Raises UserError where too many are skipped."""
        self.catch_up()
        values = outcome.values.to("cpu", non_blocking=True)
        event = None
        if outcome.values.is_cuda:
            event = torch.cuda.Event()
            event.record()
        self._pending = step, outcome.names, values, event
        if event is None:
            self.catch_up()

    def catch_up(self) -> None:
        """See the step that is still to be seen, if there is one; raises as `follow`."""
        if self._pending is None:
            return
        step, names, values, event = self._pending
        self._pending = None
        if event is not None:
            event.synchronize()
        self.latest = dict(zip(names, values.tolist(), strict=True))
        self.stop = self.latest["stop"] > 0
        self._check_skipped(step)
        if not self.latest["skipped"]:
            self._check_accuracy(step)
            self._check_variance(step)

    def summary(self) -> dict[str, float]:
        """Return the latest values but for single parameters: of these, a norm for each network."""
        summary, squares = dict[str, float](), defaultdict[str, float](float)
        for name, value in self.latest.items():
            kind, _, rest = name.partition("/")
            if kind == "gradient":
                squares[rest.partition("/")[0]] += value**2
            elif name not in ("stop", "skipped"):
                summary[name] = value
        return summary | {f"gradient/{net}": math.sqrt(square) for net, square in squares.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return what is remembered."""
        return asdict(self._memory)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Remember what was remembered. Raises TypeError where it is of another monitor."""
        self._memory = Memory(**state)

    def _check_skipped(self, step: int) -> None:
        memory = self._memory
        if not self.latest["skipped"]:
            memory.skipped = 0
            return
        bad = [name for name, value in self.latest.items() if not math.isfinite(value)]
        if all(name.startswith("gradient/") for name in bad) and self._scaler.get_scale() > 1:
            return  # with fp16 that is how the losses' scale is found
        memory.skipped += 1
        said = f"step {step} is skipped: not finite are {describe(bad, self.latest)}"
        if memory.skipped > self._max_skipped:
            raise UserError(
                f"{said}. So were the steps before, {memory.skipped} in a row, more than trainer.max_skipped="
                f"{self._max_skipped}. They changed no weight, and the checkpoints are good. Look at what is named; a "
                "lower optimiser.learning_rate (with trainer.allow_changes=true) or trainer.precision=fp32 may help"
            )
        logger.warning("%s; no weight was changed", said)

    def _check_accuracy(self, step: int) -> None:
        accuracy = self.latest.get("discriminator/accuracy")
        if accuracy is None:
            return
        at_end = min(accuracy, 1 - accuracy) <= SATURATED_WITHIN
        self._memory.pinned = self._memory.pinned + 1 if at_end else 0
        if self._memory.pinned == SATURATED_STEPS:
            what = "is never in doubt" if accuracy > 0.5 else "is always deceived"
            logger.warning(
                "step %d: for %d steps the discriminator %s (accuracy %.3f): the GAN term teaches little now. Look at "
                "the samples; another loss.gan.weight or optimiser.learning_rate may help",
                step, SATURATED_STEPS, what, accuracy,
            )  # fmt: skip

    def _check_variance(self, step: int) -> None:
        memory = self._memory
        ratio = self.latest["variance/SR"] / max(self.latest["variance/HR"], 1e-12)
        memory.ratio = ratio if memory.ratio is None else memory.ratio + (ratio - memory.ratio) / MEMORY
        memory.highest = max(memory.highest, min(memory.ratio, 1.0))
        fallen = memory.ratio < FALLEN * memory.highest
        if fallen and not memory.fallen:
            logger.warning(
                "step %d: the variance of SR has fallen to %.2f of HR's, from %.2f: the generator may be collapsing. "
                "Look at the samples",
                step, memory.ratio, memory.highest,
            )  # fmt: skip
        memory.fallen = fallen


def describe(names: list[str], values: dict[str, float], most: int = 4) -> str:
    """Name values in words, the first ones: they are in the order in which they were computed."""
    words = []
    for name in names[:most]:
        kind, _, rest = name.partition("/")
        what = {
            "loss": f"the loss term `{rest}`",
            "variance": f"the {rest} images",
            "discriminator": f"the discriminator's logits ({rest})",
            "gradient": f"the gradient of {rest.replace('/', '.')}",
        }.get(kind, name)
        words.append(f"{what} ({values[name]})")
    return ", ".join(words) + (f" and {len(names) - most} more" if len(names) > most else "")
