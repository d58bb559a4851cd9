"""Estimates parameters, memory and hours of a training, without training.

Neither photos nor weights are needed. The arguments are those of realsr train.

Usage: realsr plan +track=dped [rate=IMAGES_PER_SECOND] [output=FILE.json] key=value …
"""

from realsr.api.command import run_command

if __name__ == "__main__":
    run_command("plan")
