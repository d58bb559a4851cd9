"""Runs a complete study on bundled photographs, about 8 minutes on two cores; writes runs/demo.

Usage: python -m realsr.demo
"""

from realsr.api.command import run_command

if __name__ == "__main__":
    run_command("demo")
