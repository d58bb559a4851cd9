"""Runs the missing stages, trains, and evaluates the run.

The run is in <work_dir>/runs/default.

Usage: realsr train +track=dped data.source=PHOTOS work_dir=FOLDER key=value …
       realsr train +experiment=realsr_dped data.source=PHOTOS init=WEIGHTS key=value …
"""

from realsr.api.command import run_command

if __name__ == "__main__":
    run_command("train")
