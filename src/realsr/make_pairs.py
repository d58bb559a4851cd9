"""Makes pairs of HR and LR images.

Photos and pool -> <work_dir>/pairs.

Usage: realsr make_pairs +track=dped data.source=PHOTOS
"""

from realsr.api.command import run_command

if __name__ == "__main__":
    run_command("make_pairs")
