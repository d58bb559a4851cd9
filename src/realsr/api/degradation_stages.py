"""The stages from source photos to pairs, each with its figure, and the degradation of an array."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from realsr.api.array_checks import check_image
from realsr.api.domain_comparison import compare_pairs
from realsr.config.composition import takes_keys
from realsr.config.pipeline import (
    CollectNoiseConfig,
    EstimateKernelsConfig,
    MakePairsConfig,
    RebuildPairConfig,
    SurveyNoiseConfig,
    TrainConfig,
)
from realsr.core.errors import UserError
from realsr.core.files import check_folder_place
from realsr.core.seeding import numpy_generator
from realsr.data.degradations.degradation import required_inputs, to_batch
from realsr.data.degradations.noise import Noise
from realsr.imaging import to_uint8
from realsr.imaging.kernel_shapes import check_kernel
from realsr.kernels import estimation
from realsr.kernels.estimation import KernelPool
from realsr.noise import collection, modelling, survey
from realsr.noise.survey import NoFlatTilesError, Survey, choose_thresholds
from realsr.pairs import rebuild, synthesis
from realsr.pairs.synthesis import PairsResult
from realsr.provenance.manifest import choose_shard
from realsr.reporting.noise_survey import report_survey
from realsr.reporting.pool_figures import draw_sheet

logger = logging.getLogger("realsr")


@takes_keys("estimate_kernels")
def estimate_kernels(config: EstimateKernelsConfig) -> KernelPool:
    """Estimate the pool's kernels, or one shard of them, draw them, and return the kernel pool.

    Raises UserError at the end if a photo cannot be read, or if no photo has a usable kernel.
    """
    shard = choose_shard(config.shard, config.shards)
    pool = estimation.estimate_kernels(
        config.data.source,
        config.pool_dir,
        choose_estimator(config),
        config.scale,
        config.seed,
        config.overwrite,
        shard,
        config.workers,
        config.damaged,
        config.pool.estimator_key,
    )
    if shard is None and any("health" in item for item in pool.items.values()):
        sheet = config.pool_dir / estimation.SHEET
        if pool.has_changes or not sheet.is_file():
            draw_sheet(sheet, config.pool_dir, pool.items)
        sound = len(pool.items) - len(pool.rejects)
        folder = config.pool_dir / "kernels"
        logger.info("kernels of %d photos in %s; a sheet of all photos: %s", sound, folder, sheet)
    pool.check()
    return pool


def choose_estimator(config: EstimateKernelsConfig | TrainConfig) -> dict[str, Any]:
    """Return the values of the pool's estimator, or of the group `kernels` if the pool uses it."""
    return config.kernels if config.pool.estimator_key == "kernels" else config.pool.estimator


@takes_keys("survey_noise")
def survey_noise(config: SurveyNoiseConfig) -> Survey:
    """Measure all tiles of the source photos, log and draw their statistics, and return the survey.

    No noise patch is collected. Raises UserError at the end if some photos could not be measured.
    """
    pool = config.noise_pool_dir
    check_folder_place("noise_pool_dir", pool, [survey.STAGE])
    result = survey.survey_noise(
        config.data.source, pool, config.noise, config.workers, config.damaged
    )
    report_survey(result, pool / survey.STAGE)
    if result.failures:
        listing = "".join(f"\n  {failure}" for failure in result.failures.values())
        raise UserError(
            f"noise survey: {len(result.failures)} of {len(result.photos)} failed:{listing}"
        )
    return result


@takes_keys("collect_noise")
def collect_noise(config: CollectNoiseConfig) -> Path:
    """Collect what the online degradation needs of the source photos; return the folder.

    That is noise patches or a noise model, and JPEG tables, as the arguments of its constructor say.
    For patches the folder is `noise` in the pool.
    """
    inputs = required_inputs(config.online_degradation, noise=True)
    for name in inputs:
        if name in COLLECTORS:
            COLLECTORS[name](config)
    return config.noise_pool_dir / "noise" if "patches" in inputs else config.noise_pool_dir


def fit_noise_model(config: CollectNoiseConfig) -> Path:
    """Fit the noise of the source photos and return the file of the model."""
    return modelling.fit_noise_model(
        config.data.source, config.noise_pool_dir, config.overwrite, config.workers, config.damaged
    )


def collect_jpeg_tables(config: CollectNoiseConfig) -> Path:
    """Collect the JPEG tables of the source photos and return their file."""
    return modelling.collect_jpeg_tables(
        config.data.source, config.noise_pool_dir, config.overwrite
    )


def collect_patches(config: CollectNoiseConfig) -> Path:
    """Collect noise patches and return their folder; with noise.auto, a survey sets thresholds."""
    source, pool, noise = config.data.source, config.noise_pool_dir, config.noise
    if noise.auto:
        check_folder_place("noise_pool_dir", pool, [survey.STAGE])
        try:
            noise, result = choose_thresholds(
                source, pool, noise, config.overwrite, config.workers, config.damaged
            )
        except NoFlatTilesError as error:
            report_survey(error.survey, pool / survey.STAGE)
            raise
        thresholds = f"noise.max_variance={noise.max_variance:g} noise.min_mean={noise.min_mean:g}"
        logger.info("noise: selected %s", thresholds)
        if result is not None:
            report_survey(result, pool / survey.STAGE)
    collection.collect_noise(source, pool, noise, config.overwrite, config.workers, config.damaged)
    return pool / "noise"


COLLECTORS = {  # by name in POOL_INPUTS
    "patches": collect_patches,
    "camera_noise": fit_noise_model,
    "jpeg_tables": collect_jpeg_tables,
}


@takes_keys("make_pairs")
def make_pairs(config: MakePairsConfig) -> PairsResult:
    """Make pairs of HR and LR images; return their folder and their number.

    With `compare`, new LR is compared with the source photos, in a line and domains.png.
    """
    result = synthesis.make_pairs(
        config.data.source,
        config.data.target,
        None if config.pool.kernels == "bicubic" else config.pool_dir,
        config.pairs_dir,
        config.pairs,
        config.scale,
        config.seed,
        config.overwrite,
        config.workers,
        config.damaged,
    )
    if config.compare and result.new_count:
        compare_pairs(config, result.lr)
    return result


@takes_keys("rebuild_pair")
def rebuild_pair(config: RebuildPairConfig) -> list[Path]:
    """Rebuild one pair's LR image from the manifest; return the files written."""
    return rebuild.rebuild_pair(
        config.pair,
        config.data.source,
        config.data.target,
        config.pool_dir,
        config.pairs_dir,
        config.damaged,
    )


def degrade(
    hr: np.ndarray,
    scale: int = 4,
    kernel: np.ndarray | None = None,
    noise: np.ndarray | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Return the LR image (h, w, 3) uint8 of an HR image (s*h, s*w, 3) uint8.

    The degradation is that of `make_pairs` and training.

    Args:
        hr: the HR image; its sides must be multiples of the scale.
        scale: any; with bicubic at scale 1, LR is HR plus noise.
        kernel: the blur kernel (k, l) for this scale, with sum 1; None: bicubic.
        noise: a noise patch (h', w', 3) uint8; a random crop, minus its mean, is added. None:
            no noise.
        seed: the seed of the random crop.

    Raises:
        UserError: if an array has another shape, type or range.
    """
    check_image("degrade: hr", hr, ("uint8",))
    if not isinstance(scale, int | np.integer) or scale < 1:
        raise UserError(f"degrade: scale={scale!r}: expected a whole number, 1 or more")
    if kernel is not None:
        check_kernel(kernel, "degrade: kernel:")
        kernel = kernel.astype(np.float64)
    if noise is not None:
        check_image("degrade: noise", noise, ("uint8",))
    if any(side % scale for side in hr.shape[:2]):
        raise UserError(
            f"degrade: HR of {hr.shape[1]}x{hr.shape[0]}: expected multiples of scale={scale}"
        )
    lr = synthesis.degrade(hr, scale, kernel)
    if noise is None:
        return lr
    injection = Noise("random", [noise])
    arrays = injection.prepare(lr, 0, scale, numpy_generator(seed, "degrade"))
    return to_uint8(injection.apply(to_batch(arrays, hr))[0])
