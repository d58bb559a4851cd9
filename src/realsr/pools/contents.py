"""The degradation pool: the kernels and noise patches of one folder, ours or made elsewhere."""

import logging
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from realsr.core.errors import UserError
from realsr.core.listing import list_files
from realsr.core.ranges import Choice, Range, check_ranges

logger = logging.getLogger("realsr")


@dataclass
class PoolConfig:
    """What LR is made with: which kernels, and whether noise is put on.

    name: what to call the whole, kernel_set: what to call its kernels; by these `layout=by_pool` names folders.
    kernels: `estimated` (KernelGAN, from the source photos), `bicubic` (none), `gaussian` (drawn, see
    `degradation.gaussian`) or `mat` (a folder of .mat files). noise: whether noise patches of the source photos are
    put on LR while training. The other fields belong to `gaussian` and `mat`.

    Raises UserError where a value means nothing.
    """

    name: str = "noise_only"
    kernels: Annotated[str, Choice("estimated", "bicubic", "gaussian", "mat")] = "bicubic"
    kernel_set: str = "bicubic"
    noise: bool = True

    count: Annotated[int, Range(1)] = 1000  # kernels drawn
    isotropic: bool = False
    # Of the x2 covariance, in pixels squared.
    eigenvalues: list[Annotated[float, Range(above=0)]] = field(default_factory=lambda: [0.6, 5.0])
    multiplicative_noise: Annotated[float, Range(0, below=1)] = 0.25

    folder: Path | None = None
    key: str | None = None  # the variable to read; None for all that hold kernels
    align: bool = True

    def __post_init__(self) -> None:
        check_ranges(self, "pool")
        low, high = self.eigenvalues if len(self.eigenvalues) == 2 else (1, 0)
        rules = [
            ("eigenvalues", low <= high, "[lowest,highest] above 0, in pixels squared"),
            ("folder", self.kernels != "mat" or self.folder is not None, "a folder of .mat files: say pool.folder=DIR"),
        ]
        for key, holds, expected in rules:
            if not holds:
                raise UserError(f"pool.{key}={getattr(self, key)}: expected {expected}")

    @property
    def learns_from_source(self) -> bool:
        """Whether anything is taken from the source photos."""
        return self.noise or self.kernels == "estimated"


def list_kernels(pool: Path, scale: int) -> list[Path]:
    """Return the pool's kernel files for a scale, sorted; they may lie in subfolders of `kernels`.

    Raises UserError where there are none.
    """
    files = list_pool_files(pool / "kernels", ".mat")
    kernels = [path for path in files if path.stem.endswith(f"_x{scale}")]
    if not kernels:
        raise UserError(
            f"{pool / 'kernels'}: no kernels for scale {scale} (*_x{scale}.mat; {len(files)} other .mat files). Make "
            "them with: python -m realsr.estimate_kernels +track=<track> data.source=FOLDER work_dir=FOLDER"
        )
    if unnamed := [path.name for path in files if not re.search(r"_x\d+$", path.stem)]:
        names = ", ".join(unnamed[:5])
        logger.info("%s: left out: %d whose name has no scale (_x%d): %s", pool / "kernels", len(unnamed), scale, names)
    return kernels


def list_pool_files(folder: Path, suffix: str) -> list[Path]:
    """Return the files of a pool's sub-folder by suffix, sorted; none where there is no such folder."""
    return list_files(folder, {suffix}, recursive=True) if folder.is_dir() else []


def list_noise(pool: Path) -> list[Path]:
    """Return the pool's noise patches, sorted. Raises UserError where there are none."""
    patches = list_pool_files(pool / "noise", ".png")
    if not patches:
        raise UserError(
            f"{pool / 'noise'}: no noise patches (*.png). Make them with: "
            "python -m realsr.collect_noise +track=<track> data.source=FOLDER work_dir=FOLDER"
        )
    return patches
