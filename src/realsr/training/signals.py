"""SIGTERM and Ctrl-C while a training runs: caught, so that it saves before it leaves."""

import signal as signals
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

PATIENCE = 5.0  # seconds that a batch may still take after a stop signal


class WaitInterrupted(Exception):
    """A stop signal has come, and the batch that is waited for has not."""


class StopRequest:
    """Which signal has asked the training to stop, if any."""

    def __init__(self) -> None:
        self.signal: signals.Signals | None = None
        self._waits = False

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Interrupt the block, by WaitInterrupted, if it still waits `PATIENCE` seconds after a stop signal."""
        self._waits = True
        try:
            if self.signal is not None:
                self._start_timer()
            yield
        finally:
            self._waits = False
            if self.signal is not None:
                self._start_timer(0)

    def catch(self, number: int, frame: FrameType | None) -> None:
        """Handle a stop signal: note it. A second Ctrl-C interrupts at once."""
        if self.signal is not None and number == signals.SIGINT:
            raise KeyboardInterrupt
        self.signal = signals.Signals(number)
        if self._waits:
            self._start_timer()

    def end_wait(self, number: int, frame: FrameType | None) -> None:
        """Handle the timer's signal."""
        if self._waits:
            raise WaitInterrupted

    def _start_timer(self, seconds: float = PATIENCE) -> None:
        if hasattr(signals, "setitimer") and threading.current_thread() is threading.main_thread():
            signals.setitimer(signals.ITIMER_REAL, seconds)


@contextmanager
def catch_stop_signals() -> Iterator[StopRequest]:
    """Note the first SIGTERM or Ctrl-C; a second Ctrl-C interrupts at once.

    Outside of the main thread, where Python knows no signals, nothing is noted.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    handlers = {signals.SIGTERM: request.catch, signals.SIGINT: request.catch}
    if hasattr(signals, "SIGALRM"):
        handlers[signals.SIGALRM] = request.end_wait
    before = {number: signals.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signals.signal(number, handler)
