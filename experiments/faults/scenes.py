"""Scenes: the commands for fault injection, with their initial state and reference."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from judge import compare_folders
from product import Run
from sites import Site

SOURCE = ("+track=dped", "data.source=photos", "work_dir=work")
PHOTOS = (*SOURCE, "workers=0")
KERNELS = ("kernels=spectral", "kernels.gates=null")
NOISE = ("noise.size=16", "noise.stride=50", "noise.max_variance=25")
TRAINING = (
    "generator.features=4", "generator.blocks=1", "generator.growth=4", "discriminator=patch_small",
    "discriminator.features=4", "loss=pixel_gan", "trainer.max_steps=3", "trainer.batch=2", "trainer.crop=16",
    "trainer.workers=0", "trainer.device=cpu", "trainer.log_every=1", "trainer.checkpoint_every=1",
    "trainer.keep_checkpoints=1", "trainer.validate_every=1",
)  # fmt: skip
STAGE = (*PHOTOS, *KERNELS, *NOISE, *TRAINING)
# The keys of each command; a key of another command is refused.
ARGUMENTS = {
    "check_data": SOURCE,
    "estimate_kernels": (*PHOTOS, *KERNELS),
    "survey_noise": (*PHOTOS, *NOISE),
    "collect_noise": (*PHOTOS, *NOISE),
    "make_pairs": PHOTOS,
    "rebuild_pair": SOURCE,
    "train": STAGE,
}
RUN = "work/runs/default"
EVALUATE = ("weights=[bicubic,work/runs/default]", "data.hr=clean", "output=out", "save_images=true", "figures=[all]",
            "protocol.metrics=[psnr,ssim]")  # fmt: skip
KEEP = 1
PHOTO = (96, 64)  # fewer noise patches than needed to start worker processes


@dataclass
class Scene:
    """A command, its arguments, and the paths below `here` that it writes to.

    begins_with: the scene whose result is the initial state; None: only photos.
    """

    name: str
    command: str
    arguments: tuple[str, ...]
    writes: tuple[str, ...]
    begins_with: str | None
    template: Path = Path()
    result: Path = Path()
    operations: list[dict[str, Any]] = field(default_factory=list)

    @property
    def points(self) -> list[int]:
        """Return the numbers of the operations that change files."""
        return [line["n"] for line in self.operations if line["kind"] != "fsync"]

    def describe(self, number: int) -> str:
        """Describe an operation."""
        line = self.operations[number]
        paths = [line["path"]] + ([line["to"]] if "to" in line else [])
        return f"{line['kind']} " + " -> ".join(path.split("/here/", 1)[-1] for path in paths)


SCENES = (
    Scene("kernels", "estimate_kernels", ARGUMENTS["estimate_kernels"], ("work",), None),
    Scene("noise", "collect_noise", ARGUMENTS["collect_noise"], ("work",), "kernels"),
    Scene("pairs", "make_pairs", ARGUMENTS["make_pairs"], ("work",), "noise"),
    Scene("train", "train", STAGE, ("work",), "pairs"),
    Scene("evaluate", "evaluate", EVALUATE, ("out",), "train"),
    Scene(
        "upscale", "upscale", ("input=photos", "output=big", f"weights={RUN}"), ("big",), "train"
    ),
    Scene("export", "export", (f"weights={RUN}", "output=models/model.pth"), ("models",), "train"),
    Scene("chain", "train", STAGE, ("work",), None),
)
# With so many noise patches that worker processes decode them for the cache, which takes seconds: for two at once.
LONG_SCENES = (Scene("many patches", "train", (*STAGE, "noise.stride=24"), ("work",), None),)


class Scenes:
    """All scenes in a folder: each runs once without a fault, the first ones twice."""

    def __init__(self, folder: Path, only: Collection[str] = ()) -> None:
        self._folder, self._only = folder, only
        self._scenes: dict[str, Scene] = {}
        photos = folder / "photos"
        write_photos(photos / "photos", "abc", PHOTO)
        write_photos(photos / "clean", "xy", (52, 68))
        self._photos = photos

    def __getitem__(self, name: str) -> Scene:
        if name not in self._scenes:
            self._scenes[name] = self._prepare(
                next(x for x in SCENES + LONG_SCENES if x.name == name)
            )
        return self._scenes[name]

    def names(self) -> list[str]:
        """Return the names of the scenes for faults."""
        return self.choose([scene.name for scene in SCENES])

    def choose(self, names: Sequence[str]) -> list[str]:
        """Return the selected names, or all if none is selected."""
        return [name for name in names if name in self._only] or list(names)

    def _prepare(self, scene: Scene) -> Scene:
        scene.template = (
            self._photos if scene.begins_with is None else self[scene.begins_with].result
        )
        first, run = self._run(scene, "1")
        second, _ = self._run(scene, "2")
        if words := compare_folders(
            first.here, second.here, scene.writes, (first.root, second.root)
        ):
            raise SystemExit(
                f"{scene.name}: two runs that nothing has disturbed differ: {'; '.join(words)}"
            )
        shutil.rmtree(second.root)
        for name in ("sentinel.txt", "work/sentinel.txt"):
            (first.here / name).unlink()
        if not any((first.here / "work").iterdir()):
            (first.here / "work").rmdir()
        scene.result, scene.operations = first.here, run.operations
        return scene

    def _run(self, scene: Scene, number: str) -> tuple[Site, Run]:
        site = Site(self._folder / f"{scene.name}{number}", scene.writes)
        site.fill(scene.template)
        run = site.run(scene.command, *scene.arguments, timeout=300)
        if run.code != 0 or run.traceback:
            raise SystemExit(
                f"{run.command}: exit code {run.code} without any fault:\n{run.text[-3000:]}"
            )
        return site, run


def write_photos(
    folder: Path, names: str, size: tuple[int, int], block: int = 16, noise: float = 2
) -> None:
    """Write photos of flat blocks with noise of 2 levels: flat tiles, and edges for kernels."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        rng = np.random.default_rng(list(name.encode()))
        blocks = rng.integers(40, 216, (-(-size[0] // block), -(-size[1] // block), 3))
        image = np.kron(blocks, np.ones((block, block, 1)))[: size[0], : size[1]]
        image = image + rng.normal(0, noise, image.shape)
        cv2.imwrite(str(folder / f"{name}.png"), image.round().clip(0, 255).astype(np.uint8))


def all_names(site: Site, paths: Sequence[str]) -> list[str]:
    """Return the names of all files below paths of a trial, as messages may give them."""
    return [name for path in paths for _, _, files in os.walk(site.here / path) for name in files]
