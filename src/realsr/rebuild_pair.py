"""Rebuilds the LR image of one pair from its manifest.

The degradation is that in the manifest of the pairs.

Usage: realsr rebuild_pair +track=dped pair=NAME data.source=PHOTOS
"""

from realsr.api.command import run_command

if __name__ == "__main__":
    run_command("rebuild_pair")
