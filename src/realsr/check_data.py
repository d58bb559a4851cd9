"""Checks the data of a track.

Reports missing folders and files that cannot be read.

Usage: realsr check_data +track=dped data.source=PHOTOS
"""

from realsr.api.command import run_command

if __name__ == "__main__":
    run_command("check_data")
