"""Fetches published weights of models, metrics and losses.

Their hashes are checked.

Usage: realsr fetch what=[metrics,perceptual,models] [folder=DIR]
"""

from realsr.api.command import run_command

if __name__ == "__main__":
    run_command("fetch")
