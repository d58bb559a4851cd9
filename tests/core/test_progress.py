import io
import logging
import sys

import pytest

import realsr.core.progress
from realsr.core.progress import Progress


class Clock:
    """Time that passes only when told to."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(realsr.core.progress, "time", clock)
    return clock


@pytest.fixture
def lines(capsys, caplog):
    """What is logged off a terminal, which capsys stands for."""
    caplog.set_level(logging.INFO, logger="realsr")
    return lambda: [record.getMessage() for record in caplog.records]


def test_tells_the_time_left_and_the_total_now_and_then(clock, lines, capsys):
    with Progress("kernels", total=10) as progress:
        for _ in range(10):
            clock.now += 15
            progress.advance(note="loss 0.5")
    assert lines() == [
        "kernels: 2 of 10, 00:30 elapsed, 02:00 left: loss 0.5",
        "kernels: 4 of 10, 01:00 elapsed, 01:30 left: loss 0.5",
        "kernels: 6 of 10, 01:30 elapsed, 01:00 left: loss 0.5",
        "kernels: 8 of 10, 02:00 elapsed, 00:30 left: loss 0.5",
        "kernels: 10 of 10, 02:30 elapsed: loss 0.5",
    ]
    assert capsys.readouterr().err == ""  # no bar


def test_what_an_earlier_run_did_counts_for_nothing_in_the_time_left(clock, lines):
    with Progress("noise", total=100, done=90) as progress:
        clock.now += 30
        progress.advance(5)
    assert lines() == ["noise: 95 of 100, 00:30 elapsed, 00:30 left"]


def test_says_that_all_was_done_before(clock, lines):
    with Progress("pairs", total=7, done=7):
        pass
    assert lines() == ["pairs: 7 of 7, already done"]


def test_is_silent_between_two_lines(clock, lines):
    with Progress("noise", total=1000) as progress:
        for _ in range(19):
            clock.now += 1
            progress.advance()
    assert lines() == []


def test_shows_a_bar_on_a_terminal(monkeypatch, caplog):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    caplog.set_level(logging.INFO, logger="realsr")
    with Progress("noise", total=4, done=1) as progress:
        progress.advance(3)
    assert "noise" in terminal.getvalue()
    assert "4/4" in terminal.getvalue()
    assert not caplog.records


def test_silent_progress_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        for done in (0, 3):
            with Progress("pairs", total=3, done=done, silent=True) as progress:
                progress.advance()
    assert not caplog.text
