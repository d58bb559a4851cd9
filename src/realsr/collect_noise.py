"""Collects noise patches from source photos: python -m realsr.collect_noise +track=dped data.source=PHOTOS.

With survey=true it collects nothing, and tells and draws what noise there is to collect.
"""

import logging
from pathlib import Path

from realsr.config.composition import Config, run_command
from realsr.core.errors import UserError
from realsr.core.files import check_folder_place
from realsr.noise.collection import collect_noise
from realsr.noise.survey import NothingFlatError, Survey, choose_thresholds, survey_noise
from realsr.reporting.noise_survey import describe, write_survey

SURVEY = "noise_survey"

logger = logging.getLogger("realsr")


def main(config: Config) -> None:
    """Collect the noise patches that a config asks for, or survey what there is to collect."""
    source, pool, noise = config.data.source, config.noise_pool_dir, config.noise
    if config.survey or noise.auto:
        check_folder_place("noise_pool_dir", pool, [SURVEY])
    if config.survey:
        survey = survey_noise(source, pool, noise, config.workers, config.damaged)
        _report(survey, source, pool)
        if survey.failures:
            listing = "".join(f"\n  {failure}" for failure in survey.failures.values())
            raise UserError(f"noise survey: {len(survey.failures)} of {len(survey.photos)} could not be done:{listing}")
        return
    if noise.auto:
        try:
            noise, found = choose_thresholds(source, pool, noise, config.overwrite, config.workers, config.damaged)
        except NothingFlatError as error:
            _report(error.survey, source, pool)
            raise
        logger.info("noise: chosen noise.max_variance=%g noise.min_mean=%g", noise.max_variance, noise.min_mean)
        if found:
            _report(found, source, pool)
    collect_noise(source, pool, noise, config.overwrite, config.workers, config.damaged)


def _report(survey: Survey, source: Path | None, pool: Path) -> None:
    assert source is not None  # list_photos has asked for it
    folder = pool / SURVEY
    write_survey(folder, source, survey)
    logger.info("%s", describe(survey, folder))


if __name__ == "__main__":
    run_command(main)
