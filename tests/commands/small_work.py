"""What the tests of the commands share: small settings, made photos, and how a command ended."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from realsr.imaging import write_uint8

# All that makes a command's work small; at scale 4, as the tracks have it.
TINY = (
    "kernels.iterations=2", "kernels.gates=null", "noise.size=16", "noise.stride=16", "noise.max_variance=25",
    "generator.features=4", "generator.blocks=1", "generator.growth=4", "discriminator=patch_small",
    "discriminator.features=4", "loss=pixel_gan", "trainer.max_steps=2", "trainer.batch=2", "trainer.crop=16",
    "trainer.workers=0", "trainer.device=cpu", "trainer.log_every=1", "trainer.checkpoint_every=1",
)  # fmt: skip

# What a run is evaluated beside: interpolation, its raw, averaged and best weights.
MODELS = {"bicubic", "generator", "generator_ema", "best"}


@dataclass
class CommandResult:
    """The exit code of a command, and the text of its log."""

    code: int
    log: str


Command = Callable[..., CommandResult]


def write_photos(
    folder: Path, names: str, size: tuple[int, int] = (96, 96), block: int = 16, noise: float = 2
) -> Path:
    """Photos of flat blocks with noise of 2 levels: tiles that are flat, and edges for KernelGAN."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        rng = np.random.default_rng(list(name.encode()))
        blocks = rng.integers(40, 216, (-(-size[0] // block), -(-size[1] // block), 3))
        image = np.kron(blocks, np.ones((block, block, 1)))[: size[0], : size[1]]
        image = image + rng.normal(0, noise, image.shape)
        write_uint8(folder / f"{name}.png", image.round().clip(0, 255).astype(np.uint8))
    return folder


def files(folder: Path) -> dict[str, int]:
    """All files below a folder, with the times they were written."""
    return {
        p.relative_to(folder).as_posix(): p.stat().st_mtime_ns
        for p in folder.rglob("*")
        if p.is_file()
    }


def python_environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}
