"""Measures the noise of source photos, and logs and draws it; collects no noise patches.

Usage: python -m realsr.survey_noise +track=dped data.source=PHOTOS
"""

from realsr.api.command import run_command

if __name__ == "__main__":
    run_command("survey_noise")
