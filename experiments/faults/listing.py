"""Folders with other content than readable photos, which commands must count or name."""

import os
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from judge import Failure, judge_run
from scenes import ARGUMENTS, RUN, STAGE, Scenes, write_photos
from sites import Site
from trials import Trial, Verdict

LEFT_OUT = re.compile(
    r"left out|leaves out|leave out|not used|ignor|skipp|other files?\b|no photos?\b|not photos",
    re.I,
)
# Commands with an input folder: initial scene, folder, arguments.
COMMANDS = {
    "check_data": (None, "photos", ARGUMENTS["check_data"]),
    "estimate_kernels": (None, "photos", ARGUMENTS["estimate_kernels"]),
    "collect_noise": (None, "photos", ARGUMENTS["collect_noise"]),
    "survey_noise": (None, "photos", ARGUMENTS["survey_noise"]),
    "make_pairs": ("noise", "photos", ARGUMENTS["make_pairs"]),
    "train": (None, "photos", STAGE),
    "train validation": ("pairs", "clean", (*STAGE, "data.validation=clean")),
    "evaluate": (
        "train",
        "clean",
        (f"weights=[bicubic,{RUN}]", "data.hr=clean", "protocol.metrics=[psnr,ssim]"),
    ),
    "upscale": ("train", "photos", ("input=photos", "output=big", f"weights={RUN}")),
}
FIRST = "the first photo"
# Names of entries, and whether they are unreadable photos, for which the exit code is not 0.
ENTRIES: dict[str, tuple[Callable[[Path], None], str, bool]] = {
    "dangling link": (lambda folder: (folder / "d.png").symlink_to("nowhere.png"), "d.png", True),
    "link to itself": (lambda folder: (folder / "d.png").symlink_to("d.png"), "d.png", True),
    "zero bytes": (lambda folder: (folder / "d.png").write_bytes(b""), "d.png", True),
    "zeros": (lambda folder: (folder / "d.png").write_bytes(bytes(5000)), "d.png", True),
    "folder named like a photo": (lambda folder: (folder / "d.png").mkdir(), "d.png", False),
    "FIFO": (lambda folder: os.mkfifo(folder / "d.png"), "d.png", False),
    "sub-folder": (lambda folder: _copy_into(folder / "sub"), "sub", False),
    "other suffix": (lambda folder: (folder / "notes.txt").write_text("x"), "notes.txt", False),
    "raw photo": (lambda folder: (folder / "d.dng").write_bytes(b"II*\0"), "d.dng", False),
    "none readable": (lambda folder: _replace_all(folder, None), FIRST, True),
    "all too small": (lambda folder: _replace_all(folder, (12, 60)), FIRST, True),
    "hidden photo": (lambda folder: _copy_photo(folder, ".d.png"), ".d.png", False),
}
# upscale takes sub-folders, too, and photos of any size, make_pairs small ones; check_data does not know the limit.
NOT_WRONG = {
    ("upscale", "sub-folder"),
    *((name, "all too small") for name in ("upscale", "make_pairs", "check_data")),
}
POOL = {
    "dangling kernel": ("make_pairs", "noise", "work/pool/kernels", "a_kernel_x4.mat"),
    "dangling noise": ("train", "pairs", "work/pool/noise", "a_000.png"),
    "dangling HR": ("train", "pairs", "work/pairs/HR", "a.png"),
    "dangling LR": ("train", "pairs", "work/pairs/LR", "a.png"),
}


def list_trials(scenes: Scenes) -> list[Trial]:
    """Return a trial for each command and entry of a folder, and for external pools and pairs."""
    trials = []
    for command in COMMANDS:
        for entry in ENTRIES:
            if (command, entry) in NOT_WRONG:
                continue
            text = f"the folder of photos holds a {entry}"
            trials.append(
                Trial(f"listing/{command}/{entry}", text, partial(play, scenes, command, entry))
            )
    for name in POOL:
        for way in ("own", "foreign"):
            text = f"{name} in a folder that is {way}"
            trials.append(
                Trial(f"listing/{name}/{way}", text, partial(play_pool, scenes, name, way))
            )
    for name in ("noise", "pairs", "train"):
        scenes[name]
    return trials


def play(scenes: Scenes, command: str, entry: str, folder: Path) -> Verdict:
    """Run a command on a folder with one additional entry."""
    begins_with, place, arguments = COMMANDS[command]
    make, name, unreadable = ENTRIES[entry]
    site = Site(folder, ("work", "big"))
    site.fill(scenes[begins_with].result if begins_with else scenes["kernels"].template)
    name = min(path.name for path in (site.here / place).glob("*.png")) if name == FIRST else name
    make(site.here / place)
    site.remember()
    run = site.run(command.split()[0], *arguments, timeout=30)
    names = [
        name,
        f"  {Path(name).stem}: ",
        f"image {Path(name).stem}: ",
    ]  # an image of several files has one name
    failures = judge_run(run, (1,) if unreadable else (0, 1), names if unreadable else [])
    if (
        not failures
        and not any(word in run.text for word in names)
        and not (not unreadable and LEFT_OUT.search(run.text))
    ):
        failures.append(
            Failure("deviation", f"{run.command}: exit code {run.code} without a word about {name}")
        )
    failures += site.find_violations([run])
    return Verdict(failures, run.end)


def play_pool(scenes: Scenes, name: str, way: str, folder: Path) -> Verdict:
    """Run a command on a pool or pairs with a broken link; `foreign`: without a manifest."""
    command, begins_with, place, file = POOL[name]
    site = Site(folder, ("work",))
    site.fill(scenes[begins_with].result)
    path = site.here / place / file
    path.unlink()
    path.symlink_to("nowhere")
    if way == "foreign":
        parent = (site.here / place).parent
        for manifest in parent.rglob("manifest*.json"):
            manifest.unlink()
        shutil.rmtree(parent / "cache", ignore_errors=True)
    run = site.run(command, *ARGUMENTS[command])
    # A file whose origin is in the manifest may be made again.
    failures = judge_run(run, (0, 1) if way == "own" else (1,), [file, f"only one has {path.stem}"])
    if run.code == 0 and not path.is_file():
        failures.append(
            Failure("deviation", f"{run.command}: exit code 0, although {file} leads nowhere")
        )
    return Verdict(failures, run.end)


def _replace_all(folder: Path, size: tuple[int, int] | None) -> None:
    """Replace all photos by photos of another size, or by other files."""
    for path in folder.glob("[a-z].png"):
        path.write_bytes(b"no photo")
        if size is not None:
            write_photos(folder, path.stem, size)


def _copy_into(folder: Path) -> None:
    folder.mkdir()
    _copy_photo(folder.parent, f"{folder.name}/e.png")


def _copy_photo(folder: Path, name: str) -> None:
    shutil.copy(sorted(folder.glob("[a-z].png"))[0], folder / name)
