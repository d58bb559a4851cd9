"""Estimates the blur kernels of source photos, or makes the pool's others: source photos -> <work_dir>/pool/kernels.

Usage: python -m realsr.estimate_kernels +track=dped data.source=PHOTOS
"""

from realsr.api.command import run_command

if __name__ == "__main__":
    run_command("estimate_kernels")
