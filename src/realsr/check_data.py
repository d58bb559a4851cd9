"""Says what data a track needs, what is there and what cannot be read.

Usage: python -m realsr.check_data +track=dped data.source=PHOTOS
"""

from realsr.api.command import run_command

if __name__ == "__main__":
    run_command("check_data")
