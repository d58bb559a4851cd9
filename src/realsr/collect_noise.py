"""Collects noise patches from source photos: source photos -> <work_dir>/pool/noise.

Usage: python -m realsr.collect_noise +track=dped data.source=PHOTOS
"""

from realsr.api.command import run_command

if __name__ == "__main__":
    run_command("collect_noise")
