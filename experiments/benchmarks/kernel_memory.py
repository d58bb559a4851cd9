"""Measure the peak memory of kernel estimation: 32 photos of 12 megapixels, limit 4 GB.

The whole stage (decoding, interest maps, training, saving) runs in a separate process, and the
operating system reports its peak memory. The photos are copies of one synthetic photo under
different names. Each is decoded and held separately, so the memory equals that of different photos.
A few iterations suffice, since all memory is then allocated.

    python experiments/benchmarks/kernel_memory.py [--photos 32] [--megapixels 12] [--iterations 20]
        [--json FILE]

The last line is the fraction of 4 GB, `ratio 0.5` for 2 GB.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import make_parser, peak_memory, report

from realsr.imaging import write_uint8

LIMIT = 4096  # MB
STAGE = """
import sys

from realsr import api

source, pool, batch, iterations = sys.argv[1:]
keys = ["+track=dped", "kernels=kernelgan", f"data.source={source}", f"pool_dir={pool}"]
keys += [f"kernels.batch={batch}", f"kernels.iterations={iterations}", "kernels.gates=null"]
api.estimate_kernels(api.load_config("estimate_kernels", [*keys, "kernels.device=cpu"]))
"""


def write_photos(folder: Path, count: int, megapixels: float) -> None:
    """Write one photo of edges and noise, 4:3, under several names."""
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    width = height * 4 // 3
    rng = np.random.default_rng(0)
    blocks = rng.integers(30, 226, (height // 20 + 1, width // 20 + 1, 3), dtype=np.uint8)
    image = blocks.repeat(20, 0).repeat(20, 1)[:height, :width]
    image += rng.integers(0, 8, image.shape, dtype=np.uint8)
    folder.mkdir()
    write_uint8(folder / "photo_000.jpg", image)
    for number in range(1, count):
        (folder / f"photo_{number:03}.jpg").hardlink_to(folder / "photo_000.jpg")


def main() -> None:
    """Measure, and tell."""
    parser = make_parser(__doc__)
    parser.add_argument("--photos", type=int, default=32)
    parser.add_argument("--megapixels", type=float, default=12)
    parser.add_argument("--iterations", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        write_photos(source, options.photos, options.megapixels)
        arguments = [source, Path(folder) / "pool", options.photos, options.iterations]
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", STAGE, *map(str, arguments)], check=True)
    peak = peak_memory(resource.RUSAGE_CHILDREN)
    results = {
        "photos": options.photos,
        "megapixels": options.megapixels,
        "iterations": options.iterations,
        "seconds": round(time.perf_counter() - start, 1),
        "peak_MB": round(peak),
        "limit_MB": LIMIT,
        "ratio": round(peak / LIMIT, 3),
    }
    report(results, options.json)


if __name__ == "__main__":
    main()
