"""Reports and draws what noise there is to collect in source photos, and collects nothing.

Usage: python -m realsr.survey_noise +track=dped data.source=PHOTOS
"""

from realsr.api.command import run_command

if __name__ == "__main__":
    run_command("survey_noise")
