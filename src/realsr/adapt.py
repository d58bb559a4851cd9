"""Adapts a published generator to the photos of one camera.

Writes a model and a report.

Usage: realsr adapt source=PHOTOS output=MY_CAMERA
"""

from realsr.api.command import run_command

if __name__ == "__main__":
    run_command("adapt")
