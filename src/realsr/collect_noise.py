"""Collects noise patches from source photos: python -m realsr.collect_noise +track=dped data.source=PHOTOS."""

import logging

from realsr.config.composition import Config, run_command
from realsr.core.files import check_folder_place
from realsr.noise.collection import collect_noise
from realsr.noise.survey import STAGE, NothingFlatError, choose_thresholds
from realsr.reporting.noise_survey import report_survey

logger = logging.getLogger("realsr")


def main(config: Config) -> None:
    """Collect the noise patches that a config asks for, by thresholds of its own or (noise=auto) of a survey."""
    source, pool, noise = config.data.source, config.noise_pool_dir, config.noise
    if noise.auto:
        check_folder_place("noise_pool_dir", pool, [STAGE])
        try:
            noise, survey = choose_thresholds(source, pool, noise, config.overwrite, config.workers, config.damaged)
        except NothingFlatError as error:
            report_survey(error.survey, pool / STAGE)
            raise
        logger.info("noise: chosen noise.max_variance=%g noise.min_mean=%g", noise.max_variance, noise.min_mean)
        if survey is not None:
            report_survey(survey, pool / STAGE)
    collect_noise(source, pool, noise, config.overwrite, config.workers, config.damaged)


if __name__ == "__main__":
    run_command(main)
