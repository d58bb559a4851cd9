"""The stage that makes pairs: clean HR, and LR degraded from HR like the source photos."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from realsr.core.errors import UserError
from realsr.core.file_names import encode_name
from realsr.core.files import check_folder_place
from realsr.core.progress import Progress
from realsr.core.ranges import check_ranges
from realsr.core.seeding import numpy_generator
from realsr.core.workers import count_workers, map_items
from realsr.data.folders import damage_facts, list_photos
from realsr.imaging import (
    ImageError,
    apply_kernel_uint8,
    log_damage,
    read_uint8_and_damage,
    shrink_uint8,
    write_uint8,
)
from realsr.imaging.kernel_shapes import load_kernel
from realsr.pairs.pairs_config import PairsConfig
from realsr.pools.contents import list_kernels
from realsr.provenance.manifest import open_stage, refuse_foreign

STAGE = "pairs"

logger = logging.getLogger("realsr")


@dataclass(frozen=True)
class PairsResult:
    """The folders of HR and LR, the number of pairs, and how many of these are new."""

    hr: Path
    lr: Path
    count: int
    new_count: int


def clean_up(photo_uint8: np.ndarray, factor: int, scale: int) -> np.ndarray:
    """Downscale a photo (H, W, 3) uint8 by a factor and crop it to a multiple of the scale.

    Downscaling is bicubic. Raises ValueError if the result would be empty.
    """
    clean = shrink_uint8(photo_uint8, factor)
    height, width = clean.shape[:2]
    if min(height, width) < scale:
        raise ValueError(f"cannot crop {width}x{height} pixels to a multiple of {scale}")
    return clean[: height - height % scale, : width - width % scale]


def degrade(hr_uint8: np.ndarray, scale: int, kernel: np.ndarray | None) -> np.ndarray:
    """Degrade HR (s*h, s*w, 3) to LR (h, w, 3), both 8 bit, by a kernel or bicubic if None.

    Without a kernel, LR equals HR at scale 1. With a kernel, and at scales 1, 2, 4 and 8, the bytes
    do not depend on the machine or on the number of threads.
    """
    if kernel is None:
        return shrink_uint8(hr_uint8, scale)
    return apply_kernel_uint8(hr_uint8, kernel, scale)


def make_pairs(
    source: Path | None,
    target: Path | None,
    pool: Path | None,
    output: Path,
    config: PairsConfig,
    scale: int,
    seed: int,
    overwrite: bool,
    workers: int | None,
    damaged: str,
) -> PairsResult:
    """Write `HR/<name>.png` and `LR/<name>.png` in `output` for the photos of `config.hr`.

    LR is HR degraded by a kernel, drawn per image from the pool's kernels for the scale, or bicubic
    if `pool` is None, which at scale 1 leaves HR unchanged. Existing pairs are not made again.
    Raises UserError if a name is in both source and target, if the kernels are missing, and at the
    end if a photo cannot be read (all others are processed nevertheless).

    workers: number of processes, None for one per core; the pairs do not depend on it.
    damaged: `accept` uses the decodable part of damaged photos and reports it (log, manifest).
    """
    check_ranges(config, "pairs")
    photos = _list_photos(source, target, output, config)
    if scale == 1 and pool is None:
        logger.warning(
            "pairs: LR is equal to HR at scale=1 without kernels, so that training learns to remove "
            "only what online_degradation adds; to remove blur too, set a pool with kernels"
        )
    kernels = list_kernels(pool, scale) if pool else []
    folder = (pool or Path()) / "kernels"
    factors = {"source": config.clean_up, "target": 1}
    inputs = {f"{role}/{path.name}": path for role, path in photos.values()} | {
        f"kernels/{path.relative_to(folder).as_posix()}": path for path in kernels
    }
    check_folder_place("pairs_dir", output, ("HR", "LR"))
    refuse_foreign(output, STAGE, "HR/*")
    facts = asdict(config) | {"kernel": "pool" if pool else "bicubic", "scale": scale}
    facts["kernels"] = _identify_kernels(kernels, folder.parent)
    with open_stage(
        output,
        STAGE,
        config=facts,
        seed=seed,
        inputs=inputs,
        overwrite=overwrite,
        check_item=check_item,
    ) as record:
        missing = [name for name in photos if not record.has_item(name)]
        tasks = []
        for name in missing:
            role, path = photos[name]
            tasks.append((name, path, factors[role], _draw_kernel(kernels, seed, name)))
        make = partial(_make_pair, scale=scale, output=output, damaged=damaged)
        outcomes = map_items(make, tasks, count_workers(len(tasks), workers))
        with Progress(STAGE, total=len(photos), done=len(photos) - len(tasks)) as progress:
            for (name, path, factor, kernel), outcome in zip(tasks, outcomes, strict=True):
                progress.advance()
                photo = f"{photos[name][0]}/{path.name}"
                if isinstance(outcome, Exception):
                    record.fail(name, photo, path, outcome)
                    continue
                size, pixels, damage = outcome
                log_damage(path, damage)
                record.add(
                    name,
                    pair_files(output, name),
                    photo=photo,
                    clean_up=factor,
                    crop=list(size),
                    kernel=kernel.relative_to(folder).as_posix() if kernel else "bicubic",
                    pixels=pixels,
                    **damage_facts(damage),
                )
        result = PairsResult(output / "HR", output / "LR", len(record.items), len(tasks))
        logger.info("pairs: %d in %s and %s", result.count, result.hr, result.lr)
        record.finish()
    return result


def check_item(item: Mapping[str, Any]) -> None:
    """Raise KeyError or TypeError if a recorded pair lacks what `make_pairs` records."""
    for key, kind in (("photo", str), ("kernel", str), ("clean_up", int)):
        if type(item[key]) is not kind:
            raise TypeError(f"`{key}` has another type than expected")


def pair_files(output: Path, name: str) -> list[Path]:
    """Return the files of a pair's HR and LR."""
    return [output / kind / f"{name}.png" for kind in ("HR", "LR")]


def hash_pixels(image_uint8: np.ndarray) -> str:
    """Return the SHA-256 of an image's RGB bytes (H, W, 3), row by row."""
    return hashlib.sha256(np.ascontiguousarray(image_uint8).data).hexdigest()


def _draw_kernel(kernels: list[Path], seed: int, name: str) -> Path | None:
    """Draw the kernel of a pair, independently of all other pairs."""
    return kernels[numpy_generator(seed, STAGE, name).integers(len(kernels))] if kernels else None


def _make_pair(
    task: tuple[str, Path, int, Path | None], scale: int, output: Path, damaged: str
) -> tuple[tuple[int, int], dict[str, str], str | None] | Exception:
    """Write the pair of a task: name, photo, clean-up factor and kernel.

    Returns HR's height and width, the hashes of the pixels by file, and the photo's damage, or the
    error if the photo cannot be used.
    """
    name, path, factor, kernel = task
    try:
        photo, damage = read_uint8_and_damage(path, damaged)
        hr = clean_up(photo, factor, scale)
    except (ImageError, ValueError) as error:
        return error
    # LR is computed from the 8-bit HR, so that it can be rebuilt from the HR file.
    lr = degrade(hr, scale, load_kernel(kernel) if kernel else None)
    pixels = {}
    for file, image in zip(pair_files(output, name), (hr, lr), strict=True):
        file.parent.mkdir(exist_ok=True)
        write_uint8(file, image, sync=False)
        pixels[file.relative_to(output).as_posix()] = hash_pixels(image)
    return (hr.shape[0], hr.shape[1]), pixels, damage


def _identify_kernels(kernels: list[Path], pool: Path) -> str:
    """Return a text that identifies a list of kernels, on which each draw depends."""
    names = "\n".join(str(path.relative_to(pool)) for path in kernels)
    return f"{len(kernels)} files, {hashlib.sha256(encode_name(names)).hexdigest()[:8]}"


def _list_photos(
    source: Path | None, target: Path | None, output: Path, config: PairsConfig
) -> dict[str, tuple[str, Path]]:
    photos: dict[str, tuple[str, Path]] = {}
    for role, folder in (("source", source), ("target", target)):
        if role not in config.hr:
            continue
        for name, path in list_photos(folder, role, output).items():
            if name in photos:
                raise UserError(
                    f"{name} is in both data.source and data.target; "
                    f"rename {path} or {photos[name][1]}"
                )
            photos[name] = (role, path)
    return photos
