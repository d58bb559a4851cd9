"""The power fails before a file operation, or after the end: what was not synced is lost; then the command again.

A file whose data were written after its last fsync may become empty, zeros, or half as long; its time stays. A rename
whose folder was not synced afterwards may be undone. What is lost of all that may be is drawn by the trial's name;
manifests, of which a damaged one is easily seen, are lost more seldom than what they list.
"""

# ruff: noqa: PTH105, PTH120
import os
import random
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from file_hook import EVENTS, Fault
from judge import Failure, judge_run, judge_state
from kills import finish, list_points
from product import Run
from scenes import KEEP, Scene, Scenes
from sites import Site
from trials import Trial, Verdict

DAMAGES = ("empty", "zeros", "half")
VARIANTS = (*DAMAGES, "undone", "mixed")
Identity = tuple[int, int, int, int]


def list_trials(scenes: Scenes) -> list[Trial]:
    """Return two variants for each file operation, in turn, and all of them twice for the end of each command."""
    trials = []
    for scene in map(scenes.__getitem__, scenes.names()):
        points = list_points(scene)[1:]
        for turn, number in enumerate(points):
            for variant in (VARIANTS[turn % 5], VARIANTS[(turn + 2) % 5]):
                trials.append(_make(scene, number, variant, f"before {scene.describe(number)}"))
        trials += [
            _make(scene, None, variant, "after the end", draw)
            for variant in VARIANTS
            for draw in (1, 2)
        ]
    return trials


def _make(scene: Scene, number: int | None, variant: str, when: str, draw: int = 1) -> Trial:
    name = f"power/{scene.name}/{'end' if number is None else number}/{variant}" + f"/{draw}" * (
        number is None
    )
    return Trial(
        name, f"power fails {when}: {variant}", partial(play, scene, number, variant, name)
    )


def play(scene: Scene, number: int | None, variant: str, draw: str, folder: Path) -> Verdict:
    """Cut the power, run the command again, and judge what is there."""
    site = Site(folder, scene.writes)
    site.fill(scene.template)
    safe = {_identify(path) for path in _list_files(site)}
    first = site.run(
        scene.command, *scene.arguments, fault=None if number is None else Fault("kill", number)
    )
    if first.code != (0 if number is None else -9):
        return Verdict(
            [Failure("campaign", f"exit code {first.code} at operation {number}: {first.last}")]
        )
    damage = lose_power(site, first, safe, variant, random.Random(draw))
    verdict = Verdict(notes={"damage": damage})
    again = finish(site, scene, verdict)
    verdict.failures += _judge(site, scene, again, damage, verdict)
    verdict.failures += [Failure("outside", words) for words in site.touched([first, again])]
    return verdict


def _judge(
    site: Site, scene: Scene, run: Run, damage: Mapping[str, str], verdict: Verdict
) -> list[Failure]:
    final = {name for name in damage if not Path(name).name.startswith(".")}
    if "asked for overwrite" in verdict.notes and final:
        taken = ", ".join(f"{name}: {damage[name]}" for name in sorted(final)[:3])
        return [Failure("deviation", f"taken for a finished result, though damaged: {taken}")]
    names = {part for name in damage for part in (Path(name).name, str(Path(name).parent))}
    failures = judge_run(run, (0, 1) if damage else (0,), sorted(names - {"."}))
    if run.code != 0:
        verdict.notes["refused"] = run.last
        return failures
    unsynced = [name for name in damage if "/samples/" in name]
    ignored = any(EVENTS in name for name in damage)
    return failures + [
        failure
        for failure in judge_state(
            scene.done, site.here, scene.writes, KEEP, (scene.done.parent, site.root)
        )
        if not any(failure.detail.startswith(name) for name in unsynced)
        and not (ignored and failure.detail.startswith("TensorBoard"))
    ]


def lose_power(
    site: Site, run: Run, safe: set[Identity], variant: str, rng: random.Random
) -> dict[str, str]:
    """Take from the files what was not synced; return what was done to which, by path below `here`."""
    synced = safe | {
        (x["dev"], x["ino"], x["size"], x["mtime_ns"]) for x in run.log if x["kind"] == "synced"
    }
    damage: dict[str, str] = {}
    if variant in ("undone", "mixed"):
        for line in reversed(_list_unsynced_renames(run)):
            if _is_drawn(line["to"], rng):
                _undo(site, line)
                damage[_relative(site, line["to"])] = "rename undone"
    if variant != "undone":
        for path in _list_files(site):
            if _identify(path) not in synced and _is_drawn(path.name, rng):
                kind = rng.choice(DAMAGES) if variant == "mixed" else variant
                _damage(path, kind)
                damage.setdefault(_relative(site, path), kind)
    return damage


def _is_drawn(name: str, rng: random.Random) -> bool:
    return rng.random() < (0.2 if name.endswith("manifest.json") else 0.6)


def _list_unsynced_renames(run: Run) -> list[dict[str, Any]]:
    """Return the renames that were done and whose folder no fsync followed."""
    lines = run.log if run.code == 0 else run.log[: _last_operation(run.log)]
    pending: list[dict[str, Any]] = []
    for line in lines:
        if line["kind"] == "rename":
            pending.append(line)
        elif line["kind"] == "synced":
            pending = [
                rename for rename in pending if os.path.dirname(rename["to"]) != line["path"]
            ]
    return pending


def _last_operation(log: list[dict[str, Any]]) -> int:
    """Return the place in the log of the operation that the kill has prevented."""
    return max(place for place, line in enumerate(log) if "n" in line)


def _undo(site: Site, line: dict[str, Any]) -> None:
    source, target = Path(line["path"]), Path(line["to"])
    if not target.is_file():
        return
    if source.parent.is_dir():
        os.replace(target, source)
    if line["old"]:
        old = site.backup(line["n"])
        target.write_bytes(old.read_bytes())
        os.utime(target, ns=(old.stat().st_atime_ns, old.stat().st_mtime_ns))


def _damage(path: Path, kind: str) -> None:
    status = path.stat()
    content = path.read_bytes()
    path.write_bytes(
        {"empty": b"", "zeros": bytes(len(content)), "half": content[: len(content) // 2]}[kind]
    )
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _list_files(site: Site) -> list[Path]:
    return sorted(
        path for path in site.here.rglob("*") if path.is_file() and path.name != "sentinel.txt"
    )


def _identify(path: Path) -> Identity:
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _relative(site: Site, path: str | Path) -> str:
    return os.path.relpath(path, site.here.resolve())
