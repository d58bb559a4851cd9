"""SIGKILL before each file operation of each command; then the same command again."""

from functools import partial
from pathlib import Path

from file_hook import Fault
from judge import Failure, count_surplus, judge_run, judge_state
from product import Run
from scenes import KEEP, Scene, Scenes
from sites import Site
from trials import Trial, Verdict

EVERY = {"chain": 4}  # every n-th operation of a scene whose parts are scenes themselves


def list_points(scene: Scene) -> list[int]:
    """Return the numbers of the operations for faults."""
    return scene.points[:: EVERY.get(scene.name, 1)]


def list_trials(scenes: Scenes) -> list[Trial]:
    """Return a trial for each file operation."""
    return [
        Trial(
            f"kills/{scene.name}/{number}",
            f"SIGKILL before {scene.describe(number)}",
            partial(play, scene, number),
        )
        for scene in map(scenes.__getitem__, scenes.names())
        for number in list_points(scene)
    ]


def play(scene: Scene, number: int, folder: Path) -> Verdict:
    """Kill a command before an operation, run it again, and judge the result."""
    site = Site(folder, scene.writes)
    site.fill(scene.template)
    first = site.run(scene.command, *scene.arguments, fault=Fault("kill", number))
    if first.code != -9:
        return Verdict(
            [Failure("campaign", f"operation {number} was not reached; exit code {first.code}")]
        )
    verdict = Verdict(notes={"surplus at the kill": count_surplus(site.here, KEEP)})
    retry = finish(site, scene, verdict)
    verdict.failures += judge_end(site, scene, retry)
    verdict.failures += site.find_violations([first, retry])
    return verdict


def finish(site: Site, scene: Scene, verdict: Verdict) -> Run:
    """Run the command again, with overwrite=true if it asks for it."""
    run = site.run(scene.command, *scene.arguments)
    if run.code == 1 and "overwrite=true" in run.last and scene.name in ("evaluate", "export"):
        verdict.notes["asked for overwrite"] = run.last
        run = site.run(scene.command, *scene.arguments, "overwrite=true")
    return run


def judge_end(site: Site, scene: Scene, run: Run) -> list[Failure]:
    """Judge a command that should have succeeded, and its files."""
    return judge_run(run) + (judge_files(site, scene) if run.code == 0 else [])


def judge_files(site: Site, scene: Scene) -> list[Failure]:
    """Compare the files that a command has written with the scene's reference."""
    roots = scene.result.parent, site.root
    return judge_state(scene.result, site.here, scene.writes, KEEP, roots)
