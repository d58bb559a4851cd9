"""Reports and draws a degradation pool, or compares two.

A pool consists of kernels and noise patches.

Usage: realsr pool pool_dir=DIR [compare=DIR] [output=DIR]
"""

from realsr.api.command import run_command

if __name__ == "__main__":
    run_command("pool")
