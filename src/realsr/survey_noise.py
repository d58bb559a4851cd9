"""Measures the noise of source photos without collecting it.

The measurements are logged and drawn.

Usage: realsr survey_noise +track=dped data.source=PHOTOS
"""

from realsr.api.command import run_command

if __name__ == "__main__":
    run_command("survey_noise")
