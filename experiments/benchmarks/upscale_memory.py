"""Peak memory of enlarging a photo of 48 megapixels four times on the CPU, beside the result's own size.

`upscale_bands` runs in a process of its own with a small generator, tiles of the size that the command would choose,
and the system tells the most memory that this process ever held. The bands are dropped as soon as they come: what a
file's encoder needs comes on top. The photo (8 bit, RGB) and its result's size are what any program needs that
decodes the whole photo, or holds the whole result.

    python experiments/benchmarks/upscale_memory.py [--width 8000] [--height 6000] [--features 4] [--free GB] [--json F]

`--free` has tiles chosen as if so many gigabytes were free. The last line is the share of the result's size,
`ratio 0.5` for half of it.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from common import report

STAGE = """
import json, resource, sys, time
import numpy as np, torch
from realsr.inference import memory
from realsr.inference.model import SRModel
from realsr.inference.tiling import upscale_bands
from realsr.networks.rrdb import RRDB

height, width, features, free = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
if free:
    memory.free_memory = lambda device: int(free * 1e9)
def peak():  # kilobytes on Linux, bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)
generator = RRDB(4, features, 1, features).eval()
model = SRModel(4, torch.device("cpu"), generator)
tiles = memory.fit_tiles(model, memory.measure_bytes(model), width)
begin = peak()
photo = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
start, rows = time.perf_counter(), 0
for band in upscale_bands(model, photo, tiles):
    rows += band.shape[0]  # what writes the file would take the band here
assert rows == 4 * height
print(json.dumps({"tile": tiles.size, "overlap": tiles.overlap, "seconds": round(time.perf_counter() - start, 1),
                  "before_MB": round(begin), "peak_MB": round(peak())}))
"""


def main() -> None:
    """Measure, and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=8000)
    parser.add_argument("--height", type=int, default=6000)
    parser.add_argument("--features", type=int, default=4)
    parser.add_argument("--free", type=float, default=0)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    arguments = map(str, (asked.height, asked.width, asked.features, asked.free))
    command = [sys.executable, "-c", STAGE, *arguments]
    ended = subprocess.run(command, check=True, env=dict(os.environ), stdout=subprocess.PIPE, text=True)
    found = json.loads(ended.stdout)
    photo, result = (s * s * asked.height * asked.width * 3 / 1024**2 for s in (1, 4))
    results = {
        "width": asked.width,
        "height": asked.height,
        "features": asked.features,
        "free_GB": asked.free,
        **found,
        "photo_MB": round(photo),
        "result_MB": round(result),
        "ratio": round(found["peak_MB"] / result, 3),
    }
    report(results, asked.json)


if __name__ == "__main__":
    main()
