"""Makes the blur kernels of a pool.

By default they are estimated from the source photos: source photos -> <work_dir>/pool/kernels.

Usage: realsr estimate_kernels +track=dped data.source=PHOTOS
"""

from realsr.api.command import run_command

if __name__ == "__main__":
    run_command("estimate_kernels")
