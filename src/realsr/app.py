"""Serves a local page that upscales photos and shows pools and domains.

Usage: realsr app [weights=[RUN,FILE]] [port=7860]
       Open the address that it prints; Ctrl-C stops it. Needs the extra `app`.
"""

from realsr.api.command import run_command

if __name__ == "__main__":
    run_command("app")
