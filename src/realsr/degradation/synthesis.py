"""The stage that makes pairs: clean HR, and LR that is HR degraded as the camera would."""

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from realsr.degradation.kernels import load_kernel
from realsr.degradation.photos import list_photos
from realsr.degradation.pool import list_kernels
from realsr.errors import UserError
from realsr.imaging import (
    ImageError,
    apply_kernel,
    crop_to_multiple,
    read_uint8,
    resize,
    to_float,
    to_uint8,
    write_uint8,
)
from realsr.manifest import is_foreign, open_stage
from realsr.progress import Progress
from realsr.seeding import numpy_generator

STAGE = "pairs"


@dataclass
class PairsConfig:
    """How pairs are made.

    hr: where HR comes from: `source` (cleaned up by shrinking), `target` (as it is), or both.
    clean_up: by what a source photo is shrunk to become clean.
    """

    hr: list[str] = field(default_factory=lambda: ["source"])
    clean_up: int = 2


def clean_up(photo: Tensor, factor: int, scale: int) -> Tensor:
    """Make a source photo (3, H, W) clean: bicubic by 1/factor, cropped to a multiple of the scale."""
    return crop_to_multiple(resize(photo, factor=1 / factor), scale).clamp(0, 1)


def degrade(hr: Tensor, scale: int, kernel: np.ndarray | None) -> Tensor:
    """Degrade HR (3, s*h, s*w) to LR (3, h, w): through a kernel of that scale, or bicubic where it is None."""
    lr = resize(hr, factor=1 / scale) if kernel is None else apply_kernel(hr, kernel, scale)
    return lr.clamp(0, 1)


def make_pairs(
    source: Path | None,
    target: Path | None,
    pool: Path | None,
    output: Path,
    config: PairsConfig,
    scale: int,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Write `output/HR/<name>.png` and `output/LR/<name>.png` for each photo that `config.hr` takes in.

    LR is HR through a kernel that is drawn per image from the pool's of the scale, or bicubic where `pool` is None.
    Pairs that are done already are left as they are. Raises UserError if a name is in both source and target, if
    the kernels are missing, and at the end if a photo cannot be read (all others are done then).
    """
    _check(config)
    photos = _gather(source, target, output, config)
    kernels = list_kernels(pool, scale) if pool else []
    folder = (pool or Path()) / "kernels"
    inputs = {f"{role}/{path.name}": path for role, path in photos.values()} | {
        f"kernels/{path.relative_to(folder).as_posix()}": path for path in kernels
    }
    if is_foreign(output, STAGE, "HR/*"):
        raise UserError(
            f"{output}: holds pairs that were made elsewhere (no manifest); move them away or choose another work_dir"
        )
    facts = asdict(config) | {"kernel": "pool" if pool else "bicubic", "scale": scale}
    facts["kernels"] = _describe(kernels, folder.parent)
    with open_stage(output, STAGE, config=facts, seed=seed, inputs=inputs, overwrite=overwrite) as record:
        missing = [name for name in photos if not record.is_done(name)]
        with Progress(STAGE, total=len(photos), done=len(photos) - len(missing)) as progress:
            for name in missing:
                role, path = photos[name]
                factor = config.clean_up if role == "source" else 1
                kernel = kernels[numpy_generator(seed, STAGE, name).integers(len(kernels))] if kernels else None
                progress.advance()
                try:
                    hr = clean_up(to_float(read_uint8(path)), factor, scale)
                except (ImageError, ValueError) as error:
                    record.fail(name, f"{role}/{path.name}", path, error)
                    continue
                files = _write_pair(name, hr, kernel, output, scale)
                record.add(
                    name,
                    files,
                    photo=f"{role}/{path.name}",
                    clean_up=factor,
                    crop=list(hr.shape[1:]),
                    kernel=kernel.relative_to(folder).as_posix() if kernel else "bicubic",
                )
        record.finish()


def _describe(kernels: list[Path], pool: Path) -> str:
    """Tell one list of kernels from another: which of them a name draws depends on all of them."""
    names = "\n".join(str(path.relative_to(pool)) for path in kernels)
    return f"{len(kernels)} files, {hashlib.sha256(names.encode()).hexdigest()[:8]}"


def _check(config: PairsConfig) -> None:
    if not config.hr or not set(config.hr) <= {"source", "target"}:
        raise UserError(f"pairs.hr={config.hr}: expected [source], [target] or [source,target]")
    if config.clean_up < 1:
        raise UserError(f"pairs.clean_up={config.clean_up}: expected 1 (as it is) or more")


def _gather(source: Path | None, target: Path | None, output: Path, config: PairsConfig) -> dict[str, tuple[str, Path]]:
    photos: dict[str, tuple[str, Path]] = {}
    for role, folder in (("source", source), ("target", target)):
        if role not in config.hr:
            continue
        for name, path in list_photos(folder, role, output).items():
            if name in photos:
                raise UserError(f"{name} is in both data.source and data.target: rename {path} or {photos[name][1]}")
            photos[name] = (role, path)
    return photos


def _write_pair(name: str, hr: Tensor, kernel: Path | None, output: Path, scale: int) -> list[Path]:
    # LR is made of the HR that is on disk, so that the file alone is enough to make it again.
    hr_uint8 = to_uint8(hr)
    lr = degrade(to_float(hr_uint8), scale, load_kernel(kernel) if kernel else None)
    files = [output / kind / f"{name}.png" for kind in ("HR", "LR")]
    for file, image in zip(files, (hr_uint8, to_uint8(lr)), strict=True):
        file.parent.mkdir(exist_ok=True)
        write_uint8(file, image)
    return files
