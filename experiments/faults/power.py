"""Simulated power cuts before a file operation or after the end; then the command runs again.

A file whose data were written after its last fsync may become empty, zeros, or half as long; its
time is unchanged. A rename whose folder was not synced afterwards may be undone. The losses are
drawn with the trial's name as seed. Manifests, whose damage is easily detected, are lost less often
than the files that they list.
"""

# ruff: noqa: PTH105, PTH120
import os
import random
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from file_hook import EVENTS, Fault
from judge import Failure, judge_run
from kills import finish, judge_files, list_points
from product import Run
from scenes import Scene, Scenes
from sites import Site
from trials import Trial, Verdict

DAMAGES = ("empty", "zeros", "half")
VARIANTS = (*DAMAGES, "undone", "mixed")
Identity = tuple[int, int, int, int]


def list_trials(scenes: Scenes) -> list[Trial]:
    """Return two variants per file operation, in turn, and each variant twice after the end."""
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
    """Cut the power, run the command again, and judge the result."""
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
    retry = finish(site, scene, verdict)
    verdict.failures += _judge(site, scene, retry, damage, verdict)
    verdict.failures += site.find_violations([first, retry])
    return verdict


def _judge(
    site: Site, scene: Scene, run: Run, damage: Mapping[str, str], verdict: Verdict
) -> list[Failure]:
    final = {name for name in damage if not Path(name).name.startswith(".")}
    if "asked for overwrite" in verdict.notes and final:
        damaged_files = ", ".join(f"{name}: {damage[name]}" for name in sorted(final)[:3])
        return [
            Failure("deviation", f"taken for a finished result, though damaged: {damaged_files}")
        ]
    names = {part for name in damage for part in (Path(name).name, str(Path(name).parent))}
    failures = judge_run(run, (0, 1) if damage else (0,), sorted(names - {"."}))
    if run.code != 0:
        verdict.notes["refused"] = run.last
        return failures
    samples = [name for name in damage if "/samples/" in name]
    lost_events = any(EVENTS in name for name in damage)
    return failures + [
        failure
        for failure in judge_files(site, scene)
        if not any(failure.detail.startswith(name) for name in samples)
        and not (lost_events and failure.detail.startswith("TensorBoard"))
    ]


def lose_power(
    site: Site, run: Run, safe: set[Identity], variant: str, rng: random.Random
) -> dict[str, str]:
    """Damage files that were not synced; return the damage by path below `here`."""
    durable = safe | {
        (x["dev"], x["ino"], x["size"], x["mtime_ns"]) for x in run.log if x["kind"] == "synced"
    }
    damage: dict[str, str] = {}
    if variant in ("undone", "mixed"):
        for line in reversed(_list_unsynced_renames(run)):
            if _draw(line["to"], rng):
                _undo(site, line)
                damage[_relative(site, line["to"])] = "rename undone"
    if variant != "undone":
        for path in _list_files(site):
            if _identify(path) not in durable and _draw(path.name, rng):
                kind = rng.choice(DAMAGES) if variant == "mixed" else variant
                _damage(path, kind)
                damage.setdefault(_relative(site, path), kind)
    return damage


def _draw(name: str, rng: random.Random) -> bool:
    return rng.random() < (0.2 if name.endswith("manifest.json") else 0.6)


def _list_unsynced_renames(run: Run) -> list[dict[str, Any]]:
    """Return the renames without a later fsync of their folder."""
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
    """Return the index in the log of the operation that the kill prevented."""
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
