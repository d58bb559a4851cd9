"""Two commands at once that share a folder: the same command, or two different ones."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from judge import Failure, compare_folders, find_doubles, find_leftovers, judge_run
from kills import finish, judge_end, judge_files
from product import Run
from scenes import RUN, Scene, Scenes
from sites import Site
from trials import Trial, Verdict

DELAYS = (0.0, 0.15, 0.4, 0.8)
TIMEOUT = 120.0
TWO_RUNS = "work/runs/other"


@dataclass(frozen=True)
class Pair:
    """Two commands at once.

    scene: the first of them, by which the end is judged. other: the second's scene. extra: the second's arguments
    beside those. both: both must end well; else one may be refused, by a line that names the other process.
    begins_with: the scene that they begin with, where that is not the first's.
    """

    name: str
    scene: str
    other: str
    extra: tuple[str, ...] = ()
    no_refusal: bool = False
    reference: str = ""


PAIRS = (
    Pair("train", "train", "train"),
    Pair("chain", "chain", "chain"),
    Pair("kernels", "kernels", "kernels"),
    Pair("kernels and noise", "kernels", "noise", no_refusal=True, reference="noise"),
    Pair("pairs", "pairs", "pairs"),
    Pair("two runs, same pairs", "train", "train", (f"run={TWO_RUNS}",), no_refusal=True),
    Pair("two runs from photos", "chain", "chain", (f"run={TWO_RUNS}",)),
    Pair("many patches", "many patches", "many patches"),
    Pair("two runs, many patches", "many patches", "many patches", (f"run={TWO_RUNS}",)),
    Pair("upscale", "upscale", "upscale"),
    Pair("export", "export", "export"),
    Pair("evaluate", "evaluate", "evaluate"),
)


def list_trials(scenes: Scenes) -> list[Trial]:
    """Return a trial for each pair of commands and delay."""
    trials = []
    for pair in PAIRS:
        for scene in (pair.scene, pair.other, pair.reference or pair.scene):
            scenes[scene]
        for delay in DELAYS:
            text = f"{pair.scene} and {pair.other}, the second {delay} s later"
            trials.append(
                Trial(f"twice/{pair.name}/{delay}", text, partial(play, scenes, pair, delay))
            )
    return trials


def play(scenes: Scenes, pair: Pair, delay: float, folder: Path) -> Verdict:
    """Start both; judge their ends and the files, also after another call."""
    scene, other = scenes[pair.scene], scenes[pair.other]
    site = Site(folder, tuple({*scene.writes, *other.writes}))
    site.fill(scene.template)
    first = site.start(scene.command, *scene.arguments)
    time.sleep(delay)
    second = site.start(other.command, *other.arguments, *pair.extra)
    runs = [first.wait(TIMEOUT), second.wait(TIMEOUT)]
    verdict = Verdict(
        notes={"said": [run.last[:300] for run in runs], "codes": [run.code for run in runs]}
    )
    for run, rival in zip(runs, (second.pid, first.pid), strict=True):
        verdict.failures += _judge_run(run, rival, pair)
    if all(run.code != 0 for run in runs):
        verdict.failures.append(
            Failure(
                "message", f"none of the two was done: {runs[0].last[:200]}; {runs[1].last[:200]}"
            )
        )
    if any(run.code == 0 for run in runs) and not (pair.extra or pair.no_refusal):
        verdict.failures += judge_files(site, scene)
    retries = [finish(site, scene, verdict)]
    if pair.extra:
        retries.append(site.run(other.command, *other.arguments, *pair.extra))
        verdict.failures += [failure for run in retries for failure in judge_run(run)]
        verdict.failures += _judge_two_runs(site, scene)
    else:
        verdict.failures += judge_end(site, scenes[pair.reference or pair.scene], retries[0])
    verdict.failures += site.find_violations([*runs, *retries])
    verdict.failures = list(dict.fromkeys(verdict.failures))
    return verdict


def _judge_run(run: Run, rival: int, pair: Pair) -> list[Failure]:
    """Judge one of the two: success, or a refusal that names the other process."""
    failures = judge_run(run, (0,) if pair.no_refusal else (0, 1))
    success = run.code == 1 and "overwrite=true" in run.last and pair.name in ("evaluate", "export")
    if not failures and run.code == 1 and not success and str(rival) not in run.text:
        failures.append(
            Failure("message", f"{run.command}: does not name the other process: {run.last[:300]}")
        )
    return failures


def _judge_two_runs(site: Site, scene: Scene) -> list[Failure]:
    """Judge two runs that share pool and pairs: equal to a single run, except for the run's name."""
    failures = [Failure("leftover", name) for name in find_leftovers(site.here / "work")]
    failures += [Failure("lines twice", words) for words in find_doubles(site.here / "work")]
    differences = _compare(scene, site, ("work/pool", "work/pairs"))
    for run in (RUN, TWO_RUNS):
        state = site.root / "one"
        shutil.rmtree(state, ignore_errors=True)
        if (site.here / run).is_dir():
            shutil.copytree(site.here / run, state / RUN)
        else:
            failures.append(Failure("deviation", f"{run} is missing"))
            continue
        differences += [
            f"{run}: {words}"
            for words in compare_folders(scene.result, state, (RUN,))
            if not _named_after(words)
        ]
    return failures + [Failure("deviation", words) for words in differences]


def _compare(scene: Scene, site: Site, paths: Sequence[str]) -> list[str]:
    return compare_folders(scene.result, site.here, paths, (scene.result.parent, site.root))


def _named_after(words: str) -> bool:
    """Return whether a difference is due to the run's name (config, and its hash in the manifest)."""
    return "config.yaml" in words or "metrics.json " in words
