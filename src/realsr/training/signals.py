"""SIGTERM and Ctrl-C while a training runs: noted, so that it saves before it leaves."""

import signal as signals
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Asked:
    """Which signal has asked the training to stop, if any."""

    signal: signals.Signals | None = None


@contextmanager
def note_signals() -> Iterator[Asked]:
    """Note the first SIGTERM or Ctrl-C; a second Ctrl-C interrupts at once.

    Outside of the main thread, where Python knows no signals, nothing is noted.
    """
    asked = Asked()

    def note(number: int, frame: FrameType | None) -> None:
        if asked.signal is not None and number == signals.SIGINT:
            raise KeyboardInterrupt
        asked.signal = signals.Signals(number)

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signals.signal(number, note) for number in (signals.SIGTERM, signals.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signals.signal(number, handler)
