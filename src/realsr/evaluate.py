"""Compares models on a folder of images.

The scores are those of a named protocol.

Usage: realsr evaluate weights=[bicubic,RUN] data.hr=DIR [data.lr=DIR] [protocol=NAME]
       [output=DIR] key=value …
"""

from realsr.api.command import run_command

if __name__ == "__main__":
    run_command("evaluate")
