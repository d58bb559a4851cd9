import logging
import sys
from pathlib import Path

import pytest
from small_work import Command, CommandResult, write_photos

from config_files import takes
from realsr.api.command import run_command


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """All tests here."""


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Command:
    """Runs a command as `python -m realsr.NAME` would, in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    caplog.set_level(logging.INFO)

    def run(name: str, *arguments: str) -> CommandResult:
        # Tests share settings among commands, which refuse those of others.
        own = [argument for argument in arguments if takes(name, argument)]
        monkeypatch.setattr(sys, "argv", [f"realsr.{name}", *own])
        caplog.clear()
        code = 0
        try:
            run_command(name)
        except SystemExit as end:
            code = int(end.code or 0)
        written = capsys.readouterr()
        return CommandResult(code, caplog.text + written.out + written.err)

    return run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos", "abc")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "clean", "xy", (49, 66), noise=0)
