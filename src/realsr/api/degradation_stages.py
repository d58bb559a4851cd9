"""The stages from source photos to pairs, each with its picture."""

import logging
from pathlib import Path

from realsr.api.arguments import takes_keys
from realsr.config.schema import (
    CollectNoiseConfig,
    EstimateKernelsConfig,
    MakePairsConfig,
    RebuildPairConfig,
    SurveyNoiseConfig,
)
from realsr.core.errors import UserError
from realsr.core.files import check_folder_place
from realsr.kernels import estimation, kernel_sets
from realsr.noise import collection, survey
from realsr.noise.survey import NothingFlatError, Survey, choose_thresholds
from realsr.pairs import rebuild, synthesis
from realsr.pairs.synthesis import PairsResult
from realsr.provenance.shards import choose_shard
from realsr.reporting.noise_survey import describe, write_survey

SURVEY = "noise_survey"

logger = logging.getLogger("realsr")


@takes_keys("estimate_kernels")
def estimate_kernels(config: EstimateKernelsConfig) -> Path:
    """Make the kernels that a pool asks for, or estimate one shard of them; return their folder."""
    shard = choose_shard(config.shard, config.shards)
    match config.pool.kernels:
        case "gaussian":
            kernel_sets.draw_kernels(config.pool_dir, config.pool, config.seed, config.overwrite)
        case "mat":
            kernel_sets.import_kernels(config.pool_dir, config.pool, config.scale, config.overwrite)
        case _:  # of a pool that shrinks by bicubic, too: the command is asked for by name
            estimation.estimate_kernels(
                config.data.source,
                config.pool_dir,
                config.kernels,
                config.seed,
                config.overwrite,
                shard,
                config.workers,
                config.damaged,
            )
    return config.pool_dir / "kernels"


@takes_keys("survey_noise")
def survey_noise(config: SurveyNoiseConfig) -> Survey:
    """Report and draw what noise there is to collect; return it. Raises UserError at the end for unreadable photos."""
    source, folder = config.data.source, config.noise_pool_dir
    check_folder_place("noise_pool_dir", folder, [SURVEY])
    result = survey.survey_noise(source, folder, config.noise, config.workers, config.damaged)
    _report(result, source, folder)
    if result.failures:
        listing = "".join(f"\n  {failure}" for failure in result.failures.values())
        raise UserError(f"noise survey: {len(result.failures)} of {len(result.photos)} could not be done:{listing}")
    return result


@takes_keys("collect_noise")
def collect_noise(config: CollectNoiseConfig) -> Path:
    """Collect noise patches, by thresholds that a survey chooses where noise.auto is set; return their folder."""
    source, pool, noise = config.data.source, config.noise_pool_dir, config.noise
    if noise.auto:
        check_folder_place("noise_pool_dir", pool, [SURVEY])
        try:
            noise, result = choose_thresholds(source, pool, noise, config.overwrite, config.workers, config.damaged)
        except NothingFlatError as error:
            _report(error.survey, source, pool)
            raise
        logger.info("noise: chosen noise.max_variance=%g noise.min_mean=%g", noise.max_variance, noise.min_mean)
        if result:
            _report(result, source, pool)
    collection.collect_noise(source, pool, noise, config.overwrite, config.workers, config.damaged)
    return pool / "noise"


def _report(result: Survey, source: Path | None, pool: Path) -> None:
    assert source is not None  # list_photos has asked for it
    folder = pool / SURVEY
    write_survey(folder, source, result)
    logger.info("%s", describe(result, folder))


@takes_keys("make_pairs")
def make_pairs(config: MakePairsConfig) -> PairsResult:
    """Make pairs of HR and LR images; return where they are, and how many."""
    return synthesis.make_pairs(
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


@takes_keys("rebuild_pair")
def rebuild_pair(config: RebuildPairConfig) -> list[Path]:
    """Make the LR image of one pair again from the manifest, byte for byte; return the files written."""
    return rebuild.rebuild_pair(
        config.pair, config.data.source, config.data.target, config.pool_dir, config.pairs_dir, config.damaged
    )
