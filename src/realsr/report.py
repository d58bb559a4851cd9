"""Writes an HTML page about a run, a sweep, a pool or an evaluation.

Usage: python -m realsr.report run=DIR | sweep=DIR | pool_dir=DIR [compare=DIR] | evaluation=DIR
"""

from realsr.api.command import run_command

if __name__ == "__main__":
    run_command("report")
