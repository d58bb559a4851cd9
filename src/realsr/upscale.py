"""Upscales photos of any size.

They are computed in blended tiles that are as large as free memory allows.

Usage: realsr upscale PHOTO output=FILE [weights=df2k] key=value …
       realsr upscale PHOTO… FOLDER… output=FOLDER [format=png] key=value …
"""

from realsr.api.command import run_command

if __name__ == "__main__":
    run_command("upscale")
