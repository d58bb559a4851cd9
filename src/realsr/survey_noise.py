"""Tells and draws what noise there is to collect: python -m realsr.survey_noise +track=dped data.source=PHOTOS."""

from realsr.config.composition import Config, run_command
from realsr.core.errors import UserError
from realsr.core.files import check_folder_place
from realsr.noise.survey import STAGE, survey_noise
from realsr.reporting.noise_survey import report_survey


def main(config: Config) -> None:
    """Measure all tiles of the source photos, and write what they are like beside the pool; collect none.

    Raises UserError at the end if some photos could not be measured.
    """
    pool = config.noise_pool_dir
    check_folder_place("noise_pool_dir", pool, [STAGE])
    survey = survey_noise(config.data.source, pool, config.noise, config.workers, config.damaged)
    report_survey(survey, pool / STAGE)
    if survey.failures:
        listing = "".join(f"\n  {failure}" for failure in survey.failures.values())
        raise UserError(f"noise survey: {len(survey.failures)} of {len(survey.photos)} could not be done:{listing}")


if __name__ == "__main__":
    run_command(main)
