"""Reports and draws what a degradation pool holds: kernels and noise patches; with compare=DIR, how two differ.

Usage: python -m realsr.pool pool_dir=DIR [compare=DIR] [output=DIR]
"""

from realsr.api.command import run_command

if __name__ == "__main__":
    run_command("pool")
