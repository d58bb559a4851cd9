"""Adapts a published generator to the photos of one camera; writes a model and a report.

Usage: python -m realsr.adapt source=PHOTOS output=MY_CAMERA
"""

from realsr.api.command import run_command

if __name__ == "__main__":
    run_command("adapt")
