"""Collects noise patches from source photos.

Source photos -> <work_dir>/pool/noise.

Usage: realsr collect_noise +track=dped data.source=PHOTOS
"""

from realsr.api.command import run_command

if __name__ == "__main__":
    run_command("collect_noise")
