"""SIGTERM and Ctrl-C during a training: it saves before it ends."""

import signal as signals
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

PATIENCE = 5.0  # seconds that a batch may still take after a stop signal


class WaitInterrupted(Exception):
    """A stop signal has come while the training waited for a batch."""


class StopRequest:
    """The signal that has requested a stop, if any."""

    def __init__(self) -> None:
        self.signal: signals.Signals | None = None
        self._waits = False

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Raise WaitInterrupted in the block if it still runs `PATIENCE` seconds after a stop signal."""
        self._waits = True
        try:
            self._set_timer()
            yield
        finally:
            self._waits = False
            self._set_timer()

    def catch(self, number: int, frame: FrameType | None) -> None:
        """Handle a stop signal. A second Ctrl-C interrupts at once."""
        if self.signal is not None and number == signals.SIGINT:
            raise KeyboardInterrupt
        self.signal = signals.Signals(number)
        self._set_timer()

    def end_wait(self, number: int, frame: FrameType | None) -> None:
        """Handle the timer's signal."""
        if self._waits:
            raise WaitInterrupted

    def _set_timer(self) -> None:
        # There is a signal in the main thread only, where timers are allowed.
        if self.signal is not None and hasattr(signals, "setitimer"):
            signals.setitimer(signals.ITIMER_REAL, PATIENCE if self._waits else 0)


@contextmanager
def catch_stop_signals() -> Iterator[StopRequest]:
    """Catch SIGTERM and Ctrl-C; outside of the main thread, where Python handles no signals, nothing."""
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
