"""Contents of a degradation pool: a folder of kernels and noise patches, ours or made elsewhere."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from realsr.core.components import Values
from realsr.core.errors import UserError
from realsr.core.file_names import list_files

logger = logging.getLogger("realsr")


@dataclass
class PoolConfig:
    """Degradation of LR.

    kernels: `bicubic` for no kernels, `estimated` for those of the group `kernels`, or a name for
    those of `estimator`. `layout=by_pool` names folders after it.
    noise: whether noise patches of the source photos are added during training.
    estimator: values of an option of the group `kernels`; not used with bicubic and estimated.
    """

    kernels: str
    noise: bool
    estimator: dict[str, Any]

    def __post_init__(self) -> None:
        if self.estimator_key != "kernels" and not self.estimator:
            raise UserError(
                f"pool.kernels={self.kernels}: expected bicubic or estimated; "
                "for other kernels set pool=gaussian or pool=from_mat"
            )

    @property
    def estimator_key(self) -> str:
        """Config key of the estimator that makes the kernels."""
        return "kernels" if self.kernels in ("bicubic", "estimated") else "pool.estimator"

    @property
    def learns_from_source(self) -> bool:
        """Whether kernels or noise come from the source photos."""
        return self.noise or self.kernels == "estimated"


def list_kernels(pool: Path, scale: int) -> list[Path]:
    """Return the pool's kernel files for a scale, sorted, including subfolders of `kernels`.

    Raises UserError if there are none.
    """
    folder = pool / "kernels"
    files = list_pool_files(folder, ".mat")
    kernels = [path for path in files if path.stem.endswith(f"_x{scale}")]
    if not kernels:
        raise UserError(
            f"{folder}: no kernels for scale {scale} "
            f"(*_x{scale}.mat; {len(files)} other .mat files). Make them with: "
            "python -m realsr.estimate_kernels +track=<track> data.source=FOLDER work_dir=FOLDER "
            f"scale={scale}"
        )
    if extra_files := [path.name for path in files if not re.search(r"_x\d+$", path.stem)]:
        text = "%s: %d files are ignored because their name has no scale (_x%d): %s"
        logger.info(text, folder, len(extra_files), scale, ", ".join(extra_files[:5]))
    return kernels


def list_pool_files(folder: Path, suffix: str) -> list[Path]:
    """Return the files of a pool's folder with a suffix, sorted; none if the folder is missing."""
    return list_files(folder, {suffix}, recursive=True) if folder.is_dir() else []


def list_degradation_files(
    pool: Path, noise: bool, degradation: Values, scale: int, kernel_pool: Path | None
) -> list[Path]:
    """Return the files of the pools that an online degradation reads.

    noise: whether these include noise. kernel_pool: the pool of the kernels, None for bicubic.
    Raises UserError if some are missing.
    """
    # Imported here: they import torch, which --help does without.
    from realsr.data.degradations.degradation import required_inputs
    from realsr.data.pool_files import POOL_INPUTS, advise_collection
    from realsr.provenance.sections import STAGE_FILES

    files = list[Path]()
    for name in required_inputs(degradation, noise):
        if name == "patches":
            files += list_noise(pool)
        elif name == "kernels":
            files += [] if kernel_pool is None else list_kernels(kernel_pool, scale)
        else:
            file = pool / STAGE_FILES[POOL_INPUTS[name]]
            if not file.is_file():
                raise UserError(f"{file}: missing. {advise_collection(name)}")
            files.append(file)
    return files


def list_noise(pool: Path) -> list[Path]:
    """Return the pool's noise patches, sorted. Raises UserError if there are none."""
    patches = list_pool_files(pool / "noise", ".png")
    if not patches:
        raise UserError(
            f"{pool / 'noise'}: no noise patches (*.png). Make them with: "
            "python -m realsr.collect_noise +track=<track> data.source=FOLDER work_dir=FOLDER"
        )
    return patches
