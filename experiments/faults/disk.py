"""Disks that are full, broken or read-only: errors at file operations, small file systems."""

import errno
import shutil
from functools import partial
from pathlib import Path

import namespaces
from file_hook import EVENTS, Fault
from judge import Failure, find_torn, judge_run
from kills import finish, judge_end
from product import Run
from scenes import Scene, Scenes, all_names
from sites import Site
from trials import Trial, Verdict

NAMES = ("kernels", "noise", "pairs", "train", "evaluate", "upscale", "export")
ERRORS = ("ENOSPC", "EROFS", "EIO", "EACCES")
LASTING = ("ENOSPC", "EROFS")
PER_ERROR = {"train": 5, "export": 1}  # operations for each kind of error
ONLY = {
    "tensorboard": EVENTS,
    "metrics.jsonl": "metrics.jsonl",
    "checkpoints": "/checkpoints/",
    "samples": "/samples/",
}
FILE_SIZES = {
    "train": (30_000, 200_000),
    "evaluate": (20_000,),
    "upscale": (20_000,),
    "export": (20_000,),
}
ROOM = (8_192, 32_768, 131_072, 524_288)  # free bytes on the small disk


def list_trials(scenes: Scenes) -> list[Trial]:
    """Return trials of errors at operations, of a limit on files, and of real disks in memory."""
    trials = []
    for scene in (scenes[name] for name in NAMES if name in scenes.names()):
        for turn, error in enumerate(ERRORS):
            for number in _choose(scene.points, PER_ERROR.get(scene.name, 2), turn):
                fault = Fault(
                    "error", number, error=getattr(errno, error), lasting=error in LASTING
                )
                text = f"{error} at {scene.describe(number)}{' and from then on' * fault.lasting}"
                trials.append(
                    Trial(f"disk/{scene.name}/{error}/{number}", text, partial(play, scene, fault))
                )
        for size in FILE_SIZES.get(scene.name, ()):
            fault = Fault("file_size", size=size)
            text = f"no file may become larger than {size} bytes"
            trials.append(
                Trial(f"disk/{scene.name}/file size/{size}", text, partial(play, scene, fault))
            )
        trials += _on_small_disks(scene)
    if "train" in scenes.names():
        for name, part in ONLY.items():
            fault = Fault("error", error=errno.ENOSPC, lasting=True, only=part)
            trials.append(
                Trial(
                    f"disk/train/only/{name}",
                    f"ENOSPC at {name} alone",
                    partial(play, scenes["train"], fault),
                )
            )
    return trials


def _choose(points: list[int], count: int, turn: int) -> list[int]:
    """Choose evenly spaced operations, different ones for each turn."""
    return sorted(
        {points[(len(points) * (4 * part + turn)) // (4 * count)] for part in range(count)}
    )


def _on_small_disks(scene: Scene) -> list[Trial]:
    rooms = [room for room in ROOM if scene.name == "train" or room < 100_000]
    trials = [
        Trial(
            f"disk/{scene.name}/room/{room}",
            f"a disk with {room} bytes left",
            partial(play_small, scene, room),
        )
        for room in rooms
    ]
    return trials + [
        Trial(f"disk/{scene.name}/read-only", "a read-only disk", partial(play_small, scene, None))
    ]


def play(scene: Scene, fault: Fault, folder: Path) -> Verdict:
    """Run a command with a fault, judge how it ends, and run it again without."""
    site = Site(folder, scene.writes)
    site.fill(scene.template)
    first = site.run(scene.command, *scene.arguments, fault=fault)
    return conclude(site, scene, first)


def play_small(scene: Scene, room: int | None, folder: Path) -> Verdict:
    """Run a command with its output on a nearly full or read-only disk; then with enough space."""
    if not namespaces.has_namespaces():
        return Verdict(skipped=namespaces.REASON)
    site = Site(folder, scene.writes)
    site.fill(scene.template)
    namespaces.enter_namespace()
    disk = site.here / scene.writes[0]
    before = site.root / "before"
    if disk.is_dir():
        shutil.copytree(disk, before)
    namespaces.mount_memory(disk, 2**26)
    if before.is_dir():
        shutil.copytree(before, disk, dirs_exist_ok=True)
    site.remember()
    occupancy = sum(-(-path.stat().st_size // 4096) + 1 for path in disk.rglob("*")) * 4096
    if room is None:
        namespaces.make_read_only(disk)
    else:
        namespaces.resize_memory(disk, occupancy + room)
    first = site.run(scene.command, *scene.arguments)
    if room is None:
        namespaces.make_writable(disk)
    else:
        namespaces.resize_memory(disk, 2**26)
    return conclude(site, scene, first)


def conclude(site: Site, scene: Scene, first: Run) -> Verdict:
    """Judge the end of a command under a fault, its files, and the next run."""
    verdict = Verdict(notes=first.end)
    names = [
        *all_names(site, scene.writes),
        *scene.writes,
        *(Path(line["path"]).name for line in first.operations),
    ]
    verdict.failures += judge_run(first, (0, 1), names)
    for path in scene.writes:
        verdict.failures += [Failure("deviation", words) for words in find_torn(site.here / path)]
    if first.code == 0:
        verdict.failures += [
            Failure(failure.kind, f"exit code 0, but {failure.detail}")
            for failure in judge_end(site, scene, first)
        ]
    retry = finish(site, scene, verdict)
    if not verdict.failures or first.code != 0:
        verdict.failures += judge_end(site, scene, retry)
    verdict.failures += site.find_violations([first, retry])
    return verdict
