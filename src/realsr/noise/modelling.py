"""The stages that describe a camera in one file of the pool: its noise model, its JPEG tables."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from realsr.core.errors import UserError
from realsr.core.files import check_folder_place
from realsr.core.workers import count_workers, map_items, map_with_progress
from realsr.data.folders import list_photos
from realsr.data.pool_files import (
    CameraNoise,
    JpegTables,
    find_tables,
    write_jpeg_tables,
    write_noise_model,
)
from realsr.imaging import ImageError, log_damage, read_uint8_and_damage
from realsr.noise.noise_fit import (
    BLOCK,
    BLOCKS,
    LAGS,
    MIN_BLOCKS,
    LevelFit,
    correct_covariance,
    fit_levels,
    make_filter,
    measure_blocks,
    sum_products,
    thin_out,
)
from realsr.provenance.manifest import name_inputs, open_stage, refuse_foreign
from realsr.provenance.sections import STAGE_FILES, StageRecord

MIN_SHARE = 0.3  # of a photo's blocks that are flat, for a gain of its own
PHOTOS, BLOCKS_PER_PHOTO = 64, 400  # from which the correlation is measured, at most

logger = logging.getLogger("realsr")


def fit_noise_model(
    source: Path | None, pool: Path, overwrite: bool, workers: int | None, damaged: str
) -> Path:
    """Fit the noise of source photos, write the pool's noise model and return its file.

    Raises UserError at the end if a photo cannot be read (the model is then that of all others),
    or if too few blocks are flat.
    """
    fit = partial(_fit_model, workers=workers, damaged=damaged)
    return _write_once("noise_model", "model", source, pool, overwrite, fit)


def collect_jpeg_tables(source: Path | None, pool: Path, overwrite: bool) -> Path:
    """Write the JPEG tables of source photos into the pool and return their file.

    Raises UserError if no photo is a colour JPEG, and at the end if a photo cannot be read.
    """
    return _write_once("jpeg_tables", "tables", source, pool, overwrite, _collect_tables)


def _write_once(
    stage: str,
    item: str,
    source: Path | None,
    pool: Path,
    overwrite: bool,
    write: Callable[[Mapping[str, Path], Path, StageRecord], dict[str, Any]],
) -> Path:
    """Write the file of a stage by `write`, which returns its facts, unless it is finished."""
    file = pool / STAGE_FILES[stage]
    photos = list_photos(source, "source", pool)
    check_folder_place("noise_pool_dir", pool, [])
    refuse_foreign(pool, stage)
    inputs = name_inputs("source", list(photos.values()))
    with open_stage(
        pool, stage, config={}, seed=None, inputs=inputs, overwrite=overwrite
    ) as record:
        if not (record.complete and record.has_item(item)):
            record.add(item, [file], **write(photos, file, record))
            record.finish()
    return file


def _collect_tables(photos: Mapping[str, Path], file: Path, record: StageRecord) -> dict[str, Any]:
    """Write the JPEG tables of photos; return facts."""
    counts: Counter[JpegTables] = Counter()
    for name, path in photos.items():
        try:
            tables = find_tables(path)
        except OSError as error:
            record.fail(name, f"source/{path.name}", path, error)
            continue
        if tables is not None:
            counts[tables] += 1
    if not counts:
        folder = next(iter(photos.values())).parent
        raise UserError(
            f"{folder}: none of {len(photos)} photos is a colour JPEG. "
            "Set online_degradation.jpeg=quality" + record.list_failures()
        )
    write_jpeg_tables(file, [replace(tables, photos=count) for tables, count in counts.items()])
    count = counts.total()
    logger.info("jpeg: %d different tables of %d photos, in %s", len(counts), count, file)
    return {"photos": count, "tables": len(counts)}


def _fit_model(
    photos: Mapping[str, Path], file: Path, record: StageRecord, workers: int | None, damaged: str
) -> dict[str, Any]:
    """Write the noise model of photos; return facts. Raises UserError if too few blocks are flat."""
    tables: dict[Path, np.ndarray] = {}
    measure = partial(_measure, damaged=damaged)
    paths = list(photos.values())
    for path, result in map_with_progress("noise model", measure, paths, workers):
        if isinstance(result, ImageError):
            record.fail(path.stem, f"source/{path.name}", path, result)
            continue
        tables[path], damage = result
        log_damage(path, damage)
    blocks = np.concatenate([np.empty(0, BLOCKS), *tables.values()])
    sizes = [len(table) for table in tables.values()]
    numbers = np.repeat(np.arange(len(tables)), sizes)
    fit = fit_levels(blocks, numbers, len(tables))
    if fit is None:
        raise UserError(
            f"noise model: fewer than {MIN_BLOCKS} of {len(blocks)} blocks of {BLOCK}x{BLOCK} in "
            f"{len(tables)} photos are flat and neither constant nor clipped. Use photos that are "
            "not denoised completely, or set online_degradation=noise or online_degradation=none"
            + record.list_failures()
        )
    covariance = _measure_covariance(list(tables), blocks, numbers, fit, workers, damaged)
    counts = np.bincount(numbers[fit.flat], minlength=len(tables))
    noise = _assemble(fit, covariance, counts / np.maximum(sizes, 1))
    write_noise_model(file, noise)
    logger.info("noise model: %s, in %s", _describe(noise, counts), file)
    flat_blocks = dict(zip((path.name for path in tables), counts.tolist(), strict=True))
    return {"photos": len(tables), "blocks": len(blocks), "flat_blocks": flat_blocks}


def _measure(path: Path, damaged: str) -> tuple[np.ndarray, str | None] | ImageError:
    """Return a photo's blocks and its file's damage, or the error."""
    try:
        image, damage = read_uint8_and_damage(path, damaged)
    except ImageError as error:
        return error
    return measure_blocks(image), damage


def _measure_covariance(
    paths: Sequence[Path],
    blocks: np.ndarray,
    photos: np.ndarray,
    fit: LevelFit,
    workers: int | None,
    damaged: str,
) -> np.ndarray:
    """Return the mean covariance of the flat blocks' residuals, of some blocks of some photos."""
    tasks = []
    for photo in thin_out(np.unique(photos[fit.flat]), PHOTOS):
        flat = np.flatnonzero(fit.flat & (photos == photo))
        sample = blocks[thin_out(flat, BLOCKS_PER_PHOTO)]
        deviations = fit.evaluate(sample["mean"]) * fit.gains[photo]
        tasks.append((paths[photo], sample, deviations))
    work = partial(_sum_products, damaged=damaged)
    sums = list(map_items(work, tasks, count_workers(len(tasks), workers)))
    return np.sum(sums, axis=0) / sum(len(sample) for _, sample, _ in tasks)


def _sum_products(task: tuple[Path, np.ndarray, np.ndarray], damaged: str) -> np.ndarray:
    path, blocks, deviations = task
    image, _ = read_uint8_and_damage(path, damaged)
    return sum_products(image, blocks, deviations)


def _assemble(fit: LevelFit, covariance: np.ndarray, flat_shares: np.ndarray) -> CameraNoise:
    """Return the camera's noise from its level and the covariance of the flat blocks' residuals.

    A photo whose share of flat blocks is below MIN_SHARE has no gain, since its content cannot be
    distinguished from noise. Without any gain it is 1.
    """
    correction = correct_covariance(covariance)
    before, after = (np.diagonal(c[..., LAGS, LAGS]) for c in (covariance, correction))
    # The level was measured as if a plane removed from the noise what it removes from white noise.
    factor = np.sqrt(after / before * (1 - 3 / BLOCK**2))
    gains = fit.gains[flat_shares >= MIN_SHARE]
    return CameraNoise(
        deviations=(fit.deviations * factor[:, None] / 255).astype(np.float32),
        filter=make_filter(correction).astype(np.float32),
        gains=(gains if len(gains) else np.ones(1)).astype(np.float32),
    )


def _describe(noise: CameraNoise, flat_counts: np.ndarray) -> str:
    levels = 255 * noise.level(np.array([0.1, 0.5, 0.9])).mean(axis=0)
    text = ", ".join(f"{level:.2f}" for level in levels)
    return (
        f"{text} levels at 10, 50 and 90 % brightness, times {noise.gains.min():.2f} to "
        f"{noise.gains.max():.2f} by photo; {flat_counts.sum()} flat blocks in "
        f"{len(flat_counts)} photos"
    )
