"""Makes the kernels of a pool, estimated from source photos by default: <work_dir>/pool/kernels.

Usage: python -m realsr.estimate_kernels +track=dped data.source=PHOTOS
"""

from realsr.api.command import run_command

if __name__ == "__main__":
    run_command("estimate_kernels")
