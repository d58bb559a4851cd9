"""Compares models on a folder of images, with a named protocol.

Usage: python -m realsr.evaluate weights=[bicubic,RUN] data.hr=DIR [data.lr=DIR] [protocol=NAME]
       [output=DIR] key=value …
"""

from realsr.api.command import run_command

if __name__ == "__main__":
    run_command("evaluate")
