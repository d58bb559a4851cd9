"""Runs the missing stages, trains in <work_dir>/runs/default, and evaluates the run.

Usage: python -m realsr.train +track=dped data.source=PHOTOS work_dir=FOLDER key=value …
       python -m realsr.train +experiment=realsr_dped data.source=PHOTOS init=WEIGHTS key=value …
"""

from realsr.api.command import run_command

if __name__ == "__main__":
    run_command("train")
