"""Trials, and their execution in parallel forks of this process."""

import contextlib
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from judge import Failure

LIMIT = 600.0  # seconds a trial may take in all: its commands have limits of their own


@dataclass
class Verdict:
    """The outcome of a trial: failures, and notes that are no failures."""

    failures: list[Failure] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    skipped: str = ""


@dataclass(frozen=True)
class Trial:
    """One fault in one command.

    name: CAMPAIGN/…, by which it is run alone. fault: in words. play: called with a folder of its own.
    """

    name: str
    fault: str
    play: Callable[[Path], Verdict]

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name.replace(" ", "-"))  # as a shell takes it

    @property
    def campaign(self) -> str:
        return self.name.split("/", 1)[0]


def run_trials(
    trials: Sequence[Trial], scratch: Path, jobs: int, keep: Path | None
) -> Iterator[dict[str, Any]]:
    """Run `jobs` trials at a time; yield outcomes {"trial", "fault", "failures", "notes", …}.

    keep: where the folders of those that fail are moved to.
    """
    waiting, running = list(reversed(trials)), dict[int, tuple[Trial, Path, float]]()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                trial = waiting.pop()
                folder = scratch / trial.name.replace("/", "-")[:120]
                shutil.rmtree(folder, ignore_errors=True)
                running[_start(trial, folder)] = trial, folder, time.monotonic()
            for pid, (trial, folder, began) in list(running.items()):
                if os.waitpid(pid, os.WNOHANG)[0]:
                    del running[pid]
                    yield _collect(trial, folder, keep, time.monotonic() - began)
                elif time.monotonic() - began > LIMIT:
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
    finally:
        for pid in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _start(trial: Trial, folder: Path) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        verdict = trial.play(folder)
    except BaseException:
        verdict = Verdict([Failure("campaign", traceback.format_exc())])
    with contextlib.suppress(BaseException):
        folder.mkdir(exist_ok=True)
        (folder / "verdict.json").write_text(json.dumps(asdict(verdict), default=str))
    os._exit(0)


def _collect(trial: Trial, folder: Path, keep: Path | None, seconds: float) -> dict[str, Any]:
    file = folder / "verdict.json"
    if file.exists():
        verdict = json.loads(file.read_text())
    else:
        verdict = asdict(Verdict([Failure("campaign", f"no verdict after {seconds:.0f} s")]))
    commands = [path.read_text() for path in sorted(folder.glob("run*/command"))]
    if keep is not None and verdict["failures"]:
        target = keep / folder.name
        shutil.rmtree(target, ignore_errors=True)
        keep.mkdir(parents=True, exist_ok=True)
        shutil.move(folder, target)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "trial": trial.name,
        "fault": trial.fault,
        "commands": commands,
        **verdict,
        "took": round(seconds, 2),
    }
