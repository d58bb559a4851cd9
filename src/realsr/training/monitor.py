"""Early ends of a training: non-finite values, collapsing networks, stop signals."""

import logging
import math
import signal
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from realsr.core.errors import UserError
from realsr.training.step import Outcome

logger = logging.getLogger("realsr")

SATURATED_STEPS = 500  # steps in a row with the discriminator's accuracy near 0 or 1
SATURATED_WITHIN = 0.005  # of 0 or 1
AVERAGED_STEPS = 100  # for the moving average of the variance
COLLAPSE_RATIO = 0.5  # of the highest variance ratio
PATIENCE = 5.0  # seconds to wait for a batch after a stop signal


@dataclass
class History:
    """State of the monitor from previous steps; part of a checkpoint."""

    skipped: int = 0  # steps in a row
    pinned: int = 0  # steps in a row with the accuracy near 0 or 1
    ratio: float | None = None  # moving average of variance(SR) / variance(HR)
    highest: float = 0.0  # maximum of `ratio`, at most 1
    fallen: bool = False  # whether the collapse has been reported


class TrainingMonitor:
    """Checks the steps of a training; on a GPU one step late, to avoid waiting for the device.

    Attributes:
        latest: the values of the latest step, by name.
        stop: whether any process has a stop request; set in all processes at the same step.
    """

    def __init__(self, max_skipped: int, scaler: torch.amp.GradScaler):
        self.latest: dict[str, float] = {}
        self.stop = False
        self._max_skipped, self._scaler = max_skipped, scaler
        self._history = History()
        self._pending: tuple[int, list[str], Tensor, torch.cuda.Event | None] | None = None

    def follow(self, step: int, outcome: Outcome) -> None:
        """Check the previous step, and start to copy the values of this step to the CPU.

        Raises UserError if too many steps in a row are skipped.
        """
        self.catch_up()
        values = outcome.values.to("cpu", non_blocking=True)
        event = torch.cuda.Event() if outcome.values.is_cuda else None
        self._pending = step, outcome.names, values, event
        if event is None:
            self.catch_up()
        else:
            event.record()

    def catch_up(self) -> None:
        """Check the pending step, if any. Raises as `follow`."""
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
        """Return the latest values, with gradient norms per network instead of per parameter."""
        summary, squares = dict[str, float](), defaultdict[str, float](float)
        for name, value in self.latest.items():
            kind, _, rest = name.partition("/")
            if kind == "gradient":
                squares[rest.partition("/")[0]] += value**2
            elif name not in ("stop", "skipped"):
                summary[name] = value
        return summary | {f"gradient/{net}": math.sqrt(square) for net, square in squares.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the history."""
        return asdict(self._history)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the history. Raises TypeError if the state is of another monitor."""
        self._history = History(**state)

    def _check_skipped(self, step: int) -> None:
        history = self._history
        if not self.latest["skipped"]:
            history.skipped = 0
            return
        names = [name for name, value in self.latest.items() if not math.isfinite(value)]
        if all(name.startswith("gradient/") for name in names) and self._scaler.get_scale() > 1:
            return  # fp16 overflow: the gradient scaler lowers its scale
        history.skipped += 1
        # In order of computation.
        values = ", ".join(f"{name} ({self.latest[name]})" for name in names[:4])
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        text = f"step {step} skipped: non-finite {values}{more}"
        if history.skipped > self._max_skipped:
            raise UserError(
                f"{text}. {history.skipped} steps in a row were skipped, more than "
                f"trainer.max_skipped={self._max_skipped}. They changed no weights, and the "
                "checkpoints are valid. Check these values; a lower optimiser.learning_rate (with "
                "trainer.allow_changes=true) or trainer.precision=fp32 may help"
            )
        logger.warning("%s; no weights were changed", text)

    def _check_accuracy(self, step: int) -> None:
        accuracy = self.latest.get("discriminator/accuracy")
        if accuracy is None:
            return
        at_end = min(accuracy, 1 - accuracy) <= SATURATED_WITHIN
        self._history.pinned = self._history.pinned + 1 if at_end else 0
        if self._history.pinned == SATURATED_STEPS:
            logger.warning(
                "step %d: the discriminator has been always %s for %d steps (accuracy %.3f): the GAN "
                "term is hardly informative. Check the samples; another loss.gan.weight or "
                "optimiser.learning_rate may help",
                step, "right" if accuracy > 0.5 else "wrong", SATURATED_STEPS, accuracy,
            )  # fmt: skip

    def _check_variance(self, step: int) -> None:
        history = self._history
        ratio = self.latest["variance/SR"] / max(self.latest["variance/HR"], 1e-12)
        previous = ratio if history.ratio is None else history.ratio
        history.ratio = previous + (ratio - previous) / AVERAGED_STEPS
        history.highest = max(history.highest, min(history.ratio, 1.0))
        collapse = history.ratio < COLLAPSE_RATIO * history.highest
        if collapse and not history.fallen:
            logger.warning(
                "step %d: the ratio of the variances of SR and HR fell to %.2f from %.2f: the "
                "generator may be collapsing. Check the samples",
                step, history.ratio, history.highest,
            )  # fmt: skip
        history.fallen = collapse


class WaitTimeout(Exception):
    """A batch did not arrive within `PATIENCE` seconds after a stop signal."""


class StopRequest:
    """The signal of a stop request, if any."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._waits = False

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Raise WaitTimeout in the block if it runs `PATIENCE` seconds beyond a stop signal."""
        self._waits = True
        try:
            self._set_timer()
            yield
        finally:
            self._waits = False
            self._set_timer()

    def catch(self, number: int, frame: FrameType | None) -> None:
        """Handle a stop signal. A second Ctrl-C interrupts at once."""
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
        self._set_timer()

    def end_wait(self, number: int, frame: FrameType | None) -> None:
        """Handle the timer's signal."""
        if self._waits:
            raise WaitTimeout

    def _set_timer(self) -> None:
        # Signals are caught in the main thread only, and only there are timers allowed.
        if self.signal is not None and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, PATIENCE if self._waits else 0)


@contextmanager
def catch_stop_signals() -> Iterator[StopRequest]:
    """Catch SIGTERM and Ctrl-C in the block.

    Outside the main thread, Python handles no signals, and none are caught.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    handlers = {signal.SIGTERM: request.catch, signal.SIGINT: request.catch}
    if hasattr(signal, "SIGALRM"):
        handlers[signal.SIGALRM] = request.end_wait
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
