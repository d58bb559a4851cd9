"""The stage that fits a model of the camera's noise to all source photos."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from realsr.core.errors import UserError
from realsr.core.files import check_folder_place
from realsr.core.progress import Progress
from realsr.core.workers import count_workers, map_items
from realsr.data.folders import list_photos
from realsr.data.pool_files import NOISE_MODEL, CameraNoise, write_noise_model
from realsr.imaging import ImageError, log_damage, read_uint8_and_damage
from realsr.noise.correlation_fit import LAGS, correct_covariance, make_filter, sum_products
from realsr.noise.level_fit import BLOCK, BLOCKS, MIN_BLOCKS, LevelFit, fit_levels, measure_blocks
from realsr.provenance.manifest import name_inputs, open_stage, refuse_foreign

STAGE = "noise_model"
MIN_SHARE = 0.3  # of a photo's blocks that are flat, for a gain of its own
PHOTOS, BLOCKS_PER_PHOTO = 64, 400  # from which the correlation is measured, at most

logger = logging.getLogger("realsr")


def fit_noise_model(
    source: Path | None,
    pool: Path,
    overwrite: bool,
    workers: int | None,
    damaged: str,
) -> Path:
    """Fit the noise of source photos, write it to `pool/noise_model.json` and return the file.

    Raises UserError at the end if a photo cannot be read (the model is then that of all others),
    or if too few blocks are flat.
    """
    photos = list_photos(source, "source", pool)
    check_folder_place("noise_pool_dir", pool, [])
    refuse_foreign(pool, STAGE, NOISE_MODEL)
    file = pool / NOISE_MODEL
    inputs = name_inputs("source", list(photos.values()))
    with open_stage(
        pool, STAGE, config={}, seed=None, inputs=inputs, overwrite=overwrite
    ) as record:
        if record.complete and record.has_item("model"):
            return file
        paths = list(photos.values())
        tables: list[np.ndarray] = []
        readable: list[Path] = []
        measure = partial(_measure, damaged=damaged)
        results = map_items(measure, paths, count_workers(len(paths), workers))
        with Progress("noise model", total=len(paths)) as progress:
            for name, path, result in zip(photos, paths, results, strict=True):
                progress.advance()
                if isinstance(result, ImageError):
                    record.fail(name, f"source/{path.name}", path, result)
                    continue
                log_damage(path, result[1])
                tables.append(result[0])
                readable.append(path)
        noise, facts = _fit(readable, tables, damaged, workers)
        if noise is None:
            raise UserError(_explain(facts) + record.list_failures())
        write_noise_model(file, noise)
        record.add("model", [file], **facts)
        logger.info("noise model: %s, in %s", _describe(noise, facts), file)
        record.finish()
    return file


def _measure(path: Path, damaged: str) -> tuple[np.ndarray, str | None] | ImageError:
    """Return a photo's blocks and its file's damage, or the error."""
    try:
        image, damage = read_uint8_and_damage(path, damaged)
    except ImageError as error:
        return error
    return measure_blocks(image), damage


def _fit(
    paths: list[Path], tables: list[np.ndarray], damaged: str, workers: int | None
) -> tuple[CameraNoise | None, dict[str, Any]]:
    """Return the noise fitted to the blocks of photos, None if too few are flat, and facts."""
    blocks = np.concatenate([np.empty(0, BLOCKS), *tables])
    facts: dict[str, Any] = {"photos": len(paths), "blocks": len(blocks)}
    numbers = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    fit = fit_levels(blocks, numbers, len(tables)) if len(blocks) else None
    if fit is None:
        return None, facts
    flat = [np.flatnonzero(fit.flat & (numbers == photo)) for photo in range(len(paths))]
    facts["flat_blocks"] = {path.name: len(own) for path, own in zip(paths, flat, strict=True)}
    indices = [photo for photo, own in enumerate(flat) if len(own)]
    indices = [
        indices[i] for i in np.linspace(0, len(indices) - 1, min(len(indices), PHOTOS)).astype(int)
    ]
    tasks = []
    for photo in indices:
        own = flat[photo]
        own = own[np.linspace(0, len(own) - 1, min(len(own), BLOCKS_PER_PHOTO)).astype(int)]
        deviations = fit.evaluate(blocks["mean"][own]) * fit.gains[photo]
        tasks.append((paths[photo], blocks[own], deviations))
    sums = map_items(
        partial(_sum_products, damaged=damaged), tasks, count_workers(len(tasks), workers)
    )
    covariance = np.sum(list(sums), axis=0) / sum(len(task[1]) for task in tasks)
    return assemble(
        fit,
        covariance,
        [len(own) / max(len(table), 1) for own, table in zip(flat, tables, strict=True)],
    ), facts


def _sum_products(task: tuple[Path, np.ndarray, np.ndarray], damaged: str) -> np.ndarray:
    path, blocks, deviations = task
    image, _ = read_uint8_and_damage(path, damaged)
    return sum_products(image, blocks, deviations)


def assemble(fit: LevelFit, covariance: np.ndarray, flat_shares: list[float]) -> CameraNoise:
    """Return the camera's noise from its level and the covariance of the flat blocks' residuals.

    flat_shares: share of flat blocks in each photo. A photo with fewer than MIN_SHARE has no gain,
        since its content cannot be distinguished from noise. Without any gain it is 1.
    """
    correction = correct_covariance(covariance)
    before, after = (np.diagonal(c[..., LAGS, LAGS]) for c in (covariance, correction))
    # The level was measured as if a plane removed from the noise what it removes from white noise.
    factor = np.sqrt(after / before * (1 - 3 / BLOCK**2))
    gains = fit.gains[np.array(flat_shares) >= MIN_SHARE]
    return CameraNoise(
        deviations=(fit.deviations * factor[:, None] / 255).astype(np.float32),
        filter=make_filter(correction).astype(np.float32),
        gains=(gains if len(gains) else np.ones(1)).astype(np.float32),
    )


def _explain(facts: dict[str, Any]) -> str:
    return (
        f"noise model: fewer than {MIN_BLOCKS} of {facts['blocks']} blocks of {BLOCK}x{BLOCK} in "
        f"{facts['photos']} photos are flat and neither constant nor clipped. Use photos that are "
        "not denoised completely, or set online_degradation=noise or online_degradation=none"
    )


def _describe(noise: CameraNoise, facts: dict[str, Any]) -> str:
    levels = 255 * noise.level(np.array([0.1, 0.5, 0.9])).mean(axis=0)
    text = ", ".join(f"{level:.2f}" for level in levels)
    low, high = noise.gains.min(), noise.gains.max()
    count = sum(facts["flat_blocks"].values())
    return (
        f"{text} levels at 10, 50 and 90 % brightness, times {low:.2f} to {high:.2f} by photo; "
        f"{count} flat blocks in {facts['photos']} photos"
    )
