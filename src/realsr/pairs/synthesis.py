"""The stage that makes pairs: clean HR, and LR degraded from HR like the source photos."""

import hashlib
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from realsr.core.errors import UserError
from realsr.core.file_names import encode_name
from realsr.core.files import check_folder_place
from realsr.core.ranges import check_ranges
from realsr.core.seeding import numpy_generator
from realsr.core.workers import map_with_progress
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
class PairTask:
    """A pair to be made: its photo and kernel as the manifest names them, and their files."""

    name: str
    photo: str
    photo_file: Path
    clean_up: int
    kernel: str
    kernel_file: Path | None


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
    kernels = {}
    if pool is not None:
        files = list_kernels(pool, scale)
        kernels = {path.relative_to(pool).as_posix(): path for path in files}
    plan = _plan_pairs(photos, list(kernels.items()), config.clean_up, seed)
    check_folder_place("pairs_dir", output, ("HR", "LR"))
    refuse_foreign(output, STAGE)
    with open_stage(
        output,
        STAGE,
        config=_list_facts(config, scale, kernels),
        seed=seed,
        inputs={task.photo: task.photo_file for task in plan} | kernels,
        overwrite=overwrite,
        check_item=check_item,
    ) as record:
        tasks = [task for task in plan if not record.has_item(task.name)]
        make = partial(_make_pair, scale=scale, output=output, damaged=damaged)
        done = len(plan) - len(tasks)
        for task, outcome in map_with_progress(STAGE, make, tasks, workers, done):
            if isinstance(outcome, Exception):
                record.fail(task.name, task.photo, task.photo_file, outcome)
                continue
            log_damage(task.photo_file, outcome.get("damaged"))
            record.add(task.name, pair_files(output, task.name), **outcome)
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


def _plan_pairs(
    photos: Mapping[str, tuple[str, Path]],
    kernels: Sequence[tuple[str, Path]],
    clean_up: int,
    seed: int,
) -> list[PairTask]:
    """Return the pairs of photos; their kernels are drawn independently of each other."""
    tasks = []
    for name, (role, path) in photos.items():
        kernel_name, kernel_file = "bicubic", None
        if kernels:
            draw = int(numpy_generator(seed, STAGE, name).integers(len(kernels)))
            kernel_name, kernel_file = kernels[draw]
        kernel_name = kernel_name.removeprefix("kernels/")
        factor = clean_up if role == "source" else 1
        tasks.append(PairTask(name, f"{role}/{path.name}", path, factor, kernel_name, kernel_file))
    return tasks


def _list_facts(config: PairsConfig, scale: int, kernels: Collection[str]) -> dict[str, Any]:
    """Return the settings that the pairs depend on. Each draw depends on the names of all kernels."""
    digest = hashlib.sha256(encode_name("\n".join(kernels))).hexdigest()[:8]
    return asdict(config) | {
        "kernel": "pool" if kernels else "bicubic",
        "scale": scale,
        "kernels": f"{len(kernels)} files, {digest}",
    }


def _make_pair(
    task: PairTask, scale: int, output: Path, damaged: str
) -> dict[str, Any] | ImageError | ValueError:
    """Write a pair; return its item for the manifest, or the error if the photo cannot be used."""
    try:
        photo, damage = read_uint8_and_damage(task.photo_file, damaged)
        hr = clean_up(photo, task.clean_up, scale)
    except (ImageError, ValueError) as error:
        return error
    # LR is computed from the 8-bit HR, so that it can be rebuilt from the HR file.
    lr = degrade(hr, scale, load_kernel(task.kernel_file) if task.kernel_file else None)
    pixels = {}
    for file, image in zip(pair_files(output, task.name), (hr, lr), strict=True):
        file.parent.mkdir(exist_ok=True)
        write_uint8(file, image, sync=False)
        pixels[file.relative_to(output).as_posix()] = hash_pixels(image)
    return {
        "photo": task.photo,
        "clean_up": task.clean_up,
        "crop": list(hr.shape[:2]),
        "kernel": task.kernel,
        "pixels": pixels,
        **damage_facts(damage),
    }


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
