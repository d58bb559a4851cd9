"""The degradation pool: the kernels and noise patches of one folder, ours or made elsewhere."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from realsr.core.errors import UserError
from realsr.core.file_names import list_files

logger = logging.getLogger("realsr")


@dataclass
class PoolConfig:
    """What LR is made with: which kernels, and whether noise patches of the source photos are added while training.

    kernels: `bicubic` for none, `estimated` for those of the group `kernels`, or a name for what `estimator` makes; by
    it `layout=by_pool` names folders. estimator: values of an option of the group `kernels`, else not used.
    """

    kernels: str
    noise: bool
    estimator: dict[str, Any]

    def __post_init__(self) -> None:
        if self.estimator_key != "kernels" and not self.estimator:
            raise UserError(
                f"pool.kernels={self.kernels}: expected bicubic or estimated; for other kernels set a pool: "
                "pool=gaussian, pool=from_mat"
            )

    @property
    def estimator_key(self) -> str:
        """The config key of the values of the estimator that makes the kernels."""
        return "kernels" if self.kernels in ("bicubic", "estimated") else "pool.estimator"

    @property
    def learns_from_source(self) -> bool:
        """Whether anything is taken from the source photos."""
        return self.noise or self.kernels == "estimated"


def list_kernels(pool: Path, scale: int) -> list[Path]:
    """Return the pool's kernel files for a scale, sorted; subfolders of `kernels` are searched.

    Raises UserError where there are none.
    """
    folder = pool / "kernels"
    files = list_pool_files(folder, ".mat")
    kernels = [path for path in files if path.stem.endswith(f"_x{scale}")]
    if not kernels:
        raise UserError(
            f"{folder}: no kernels for scale {scale} (*_x{scale}.mat; {len(files)} other .mat files). Make them with: "
            "python -m realsr.estimate_kernels +track=<track> data.source=FOLDER work_dir=FOLDER"
        )
    if unnamed := [path.name for path in files if not re.search(r"_x\d+$", path.stem)]:
        names = ", ".join(unnamed[:5])
        logger.info(
            "%s: left out: %d whose name has no scale (_x%d): %s",
            folder,
            len(unnamed),
            scale,
            names,
        )
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
