"""Checks the data that a track needs, and reports missing folders and unreadable files.

Usage: python -m realsr.check_data +track=dped data.source=PHOTOS
"""

from realsr.api.command import run_command

if __name__ == "__main__":
    run_command("check_data")
