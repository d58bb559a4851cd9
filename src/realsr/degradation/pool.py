"""The degradation pool: the kernels and noise patches of one folder, ours or made elsewhere."""

from pathlib import Path

from realsr.errors import UserError


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
