"""Compares models on a folder of images, by a named protocol.

Usage: python -m realsr.evaluate weights=[bicubic,RUN] data.hr=DIR [data.lr=DIR] [protocol=NAME] [output=DIR] …
"""

from realsr.api.command import run_command

if __name__ == "__main__":
    run_command("evaluate")
