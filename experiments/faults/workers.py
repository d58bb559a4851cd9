"""Workers that are killed or stopped, and small shared memory: no command may hang."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import namespaces
from judge import Failure, judge_run
from kills import judge_files
from product import Run, RunningCommand
from scenes import PHOTO, Scenes, write_photos
from sites import Site
from trials import Trial, Verdict

LONG = ("trainer.workers=2", "trainer.max_steps=1000000", "trainer.log_every=50", "trainer.checkpoint_every=500000",
        "trainer.validate_every=500000")  # fmt: skip
END = 90.0  # seconds until a training without a worker must have ended
STOP = 30.0  # seconds until it must have obeyed a signal
START = 60.0
SAYS = ("worker", "shm", "shared memory")


def list_trials(scenes: Scenes) -> list[Trial]:
    """Return trials of workers that die or stop, of signals, of small shared memory, and of the stages' workers."""
    ends: dict[str, Callable[[RunningCommand], None]] = {
        "kill one": lambda run: _signal_workers(run, signal.SIGKILL, 1),
        "kill all": lambda run: _signal_workers(run, signal.SIGKILL),
        "stop one": lambda run: _signal_workers(run, signal.SIGSTOP, 1),
        "stop all": lambda run: _signal_workers(run, signal.SIGSTOP),
    }
    trials = [
        Trial(
            f"workers/train/{name}", f"training's workers: {name}", partial(play_end, scenes, end)
        )
        for name, end in ends.items()
    ]
    for number in (signal.SIGTERM, signal.SIGINT):
        for name in ("stop all", "nothing"):
            text = f"{number.name} to a training, after its workers: {name}"
            play = partial(play_signal, scenes, ends.get(name), number)
            trials.append(Trial(f"workers/train/{number.name} after {name}", text, play))
    for size in (65_536, 4_194_304):
        text = f"/dev/shm has {size} bytes"
        trials.append(
            Trial(f"workers/train/shm {size}", text, partial(play_small_memory, scenes, size, None))
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            play = partial(play_small_memory, scenes, size, number)
            trials.append(
                Trial(
                    f"workers/train/shm {size} {number.name}", f"{text}, then {number.name}", play
                )
            )
    for stage in ("noise", "pairs", "kernels"):
        trials.append(
            Trial(
                f"workers/{stage}/kill one",
                f"a worker of {stage} is killed",
                partial(play_stage, scenes, stage),
            )
        )
    for name in ("train", "noise", "pairs", "kernels"):
        scenes[name]
    return trials


def play_end(scenes: Scenes, end: Callable[[RunningCommand], None], folder: Path) -> Verdict:
    """Kill or stop the workers of a training, which must end with a line that says what to set."""
    site, run = _start_training(scenes, folder)
    if not _wait_for(lambda: _is_training(run)):
        return _give_up(run)
    end(run)
    outcome = _wait(run, END)
    failures = _judge(outcome, (1,)) + site.find_violations([outcome])
    return Verdict(failures, outcome.end | {"seconds": round(outcome.seconds)})


def play_signal(
    scenes: Scenes,
    end: Callable[[RunningCommand], None] | None,
    number: signal.Signals,
    folder: Path,
) -> Verdict:
    """Stop a training that may be waiting for a batch."""
    _, run = _start_training(scenes, folder)
    if not _wait_for(lambda: _is_training(run)):
        return _give_up(run)
    if end is not None:
        end(run)
        time.sleep(2)
    run.signal(number)
    outcome = _wait(run, STOP)
    failures = _judge(outcome, (128 + number, *((1,) if end else ())))
    return Verdict(failures, outcome.end | {"seconds": round(outcome.seconds)})


def play_small_memory(
    scenes: Scenes, size: int, number: signal.Signals | None, folder: Path
) -> Verdict:
    """Train with small shared memory: an error or no use of it; signals must be obeyed."""
    if not namespaces.has_namespaces():
        return Verdict(skipped=namespaces.REASON)
    namespaces.enter_namespace()
    namespaces.mount_memory(Path("/dev/shm"), size)
    steps = (
        ()
        if number
        else ("trainer.max_steps=30", "trainer.checkpoint_every=30", "trainer.validate_every=30")
    )
    _, run = _start_training(scenes, folder, "trainer.batch=256", *steps)
    if number is None:
        outcome = _wait(run, END + START)
        failures = _judge(outcome, (0, 1))
    else:
        _wait_for(lambda: len(_list_workers(run.pid)) >= 2, START / 2)
        time.sleep(8)
        run.signal(number)
        outcome = _wait(run, STOP)
        failures = _judge(outcome, (128 + number, 1))
    return Verdict(failures, outcome.end | {"seconds": round(outcome.seconds)})


def play_stage(scenes: Scenes, stage: str, folder: Path) -> Verdict:
    """Kill a worker of a stage; then run the stage without workers."""
    scene = scenes[stage]
    site = Site(folder, scene.writes)
    site.fill(scene.template)
    write_photos(site.here / "photos", "abc", PHOTO)  # the same, only that they are read anew
    site.remember()
    run = site.start(scene.command, *scene.arguments, "workers=2")
    if not _wait_for(lambda: len(_list_workers(run.pid)) >= 2, START / 2):
        outcome = run.wait(1)
        return Verdict(skipped=f"no worker was seen; exit code {outcome.code}")
    _signal_workers(run, signal.SIGKILL, 1)
    outcome = _wait(run, END)
    failures = _judge(outcome, (0, 1))
    retry = site.run(scene.command, *scene.arguments)
    failures += judge_run(retry)
    if retry.code == 0:
        failures += judge_files(site, scene)
    failures += site.find_violations([outcome, retry])
    return Verdict(failures, outcome.end | {"seconds": round(outcome.seconds)})


def _judge(run: Run, codes: tuple[int, ...]) -> list[Failure]:
    """Judge the end of a command; an error must mention workers or shared memory."""
    failures = judge_run(run, codes)
    message = " ".join(line for line in run.lines if line.startswith("error: "))
    if not failures and run.code == 1 and not any(word in message for word in SAYS):
        failures.append(
            Failure(
                "message", f"{run.command}: says neither worker nor shared memory: {message[:300]}"
            )
        )
    return failures


def _start_training(scenes: Scenes, folder: Path, *arguments: str) -> tuple[Site, RunningCommand]:
    scene = scenes["train"]
    site = Site(folder, scene.writes)
    site.fill(scene.template)
    return site, site.start(scene.command, *scene.arguments, *LONG, *arguments)


def _is_training(run: RunningCommand) -> bool:
    """Whether steps are being done: the records of the first one are written."""
    return len(_list_workers(run.pid)) >= 2 and any(
        "events.out" in line["path"] for line in run.read_log()
    )


def _wait_for(condition: Callable[[], bool], seconds: float = START) -> bool:
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if condition():
            time.sleep(1)
            return True
        time.sleep(0.05)
    return False


def _wait(run: RunningCommand, seconds: float) -> Run:
    """Wait for the end, at most some seconds from now."""
    return run.wait(time.monotonic() - run.began + seconds)


def _give_up(run: RunningCommand) -> Verdict:
    outcome = run.wait(1)
    return Verdict(
        [
            Failure(
                "campaign", f"the training did not begin within {START:.0f} s: {outcome.last[:300]}"
            )
        ]
    )


def _list_workers(pid: int) -> list[int]:
    """Return the grandchildren of a process, which its fork server has forked."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                parents[int(folder.name)] = int(
                    (folder / "stat").read_text().rsplit(")", 1)[1].split()[1]
                )
    return sorted(child for child, parent in parents.items() if parents.get(parent) == pid)


def _signal_workers(run: RunningCommand, number: signal.Signals, count: int | None = None) -> None:
    for pid in _list_workers(run.pid)[:count]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
