"""Reports and draws the kernels and noise patches of a degradation pool; compares it with another.

Usage: python -m realsr.pool pool_dir=DIR [compare=DIR] [output=DIR]
"""

from realsr.api.command import run_command

if __name__ == "__main__":
    run_command("pool")
