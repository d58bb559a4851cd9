"""Measures how far LR images are from the photos of a camera.

Usage: python -m realsr.compare_domains a=PHOTOS b=PAIRS/LR [output=DIR]
"""

from realsr.api.command import run_command

if __name__ == "__main__":
    run_command("compare_domains")
