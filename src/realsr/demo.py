"""Runs a complete study on bundled photographs.

It takes about 8 minutes on two cores, and writes runs/demo.

Usage: realsr demo
"""

from realsr.api.command import run_command

if __name__ == "__main__":
    run_command("demo")
