"""The degradation pool: the kernels and noise patches of one folder, ours or made elsewhere."""

from dataclasses import dataclass, field
from pathlib import Path

from realsr.errors import UserError

KERNELS = ("estimated", "bicubic", "gaussian", "mat")


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
    kernels: str = "bicubic"
    kernel_set: str = "bicubic"
    noise: bool = True

    count: int = 1000  # kernels drawn
    isotropic: bool = False
    eigenvalues: list[float] = field(default_factory=lambda: [0.6, 5.0])  # of the x2 covariance, pixels squared
    multiplicative_noise: float = 0.25

    folder: Path | None = None
    key: str | None = None  # the variable to read; None for all that hold kernels
    align: bool = True

    def __post_init__(self) -> None:
        low, high = self.eigenvalues if len(self.eigenvalues) == 2 else (0, 0)
        rules = [
            ("kernels", self.kernels in KERNELS, f"one of {', '.join(KERNELS)}"),
            ("count", self.count >= 1, "1 or more"),
            ("eigenvalues", 0 < low <= high, "[lowest,highest] above 0, in pixels squared"),
            ("multiplicative_noise", 0 <= self.multiplicative_noise < 1, "0 or more and below 1"),
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
    found = sorted((pool / "kernels").rglob(f"*_x{scale}.mat"))
    if not found:
        others = len(list((pool / "kernels").rglob("*.mat")))
        raise UserError(
            f"{pool / 'kernels'}: no kernels for scale {scale} (*_x{scale}.mat; {others} other .mat files). Make them "
            "with: python -m realsr.estimate_kernels +track=<track> data.source=FOLDER work_dir=FOLDER"
        )
    return found


def list_noise(pool: Path) -> list[Path]:
    """Return the pool's noise patches, sorted. Raises UserError where there are none."""
    found = sorted((pool / "noise").rglob("*.png"))
    if not found:
        raise UserError(
            f"{pool / 'noise'}: no noise patches (*.png). Make them with: "
            "python -m realsr.collect_noise +track=<track> data.source=FOLDER work_dir=FOLDER"
        )
    return found
