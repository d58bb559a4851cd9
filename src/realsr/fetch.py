"""Fetches the published weights that metrics, perceptual losses and models need.

Usage: python -m realsr.fetch what=[metrics,perceptual,models] [folder=DIR]
"""

from realsr.api.command import run_command

if __name__ == "__main__":
    run_command("fetch")
