"""Measure whether comparing 100 photos with 100 images takes less than a minute on two cores.

The photos are crops of 1024x1024 pixels of the photos of a folder, repeated if there are fewer than N, as
JPEG of quality 92; the images are the same, mirrored. `realsr.compare_domains` runs as a command in one
process: the start, decoding, the figure and the files are part of its CPU time, which depends less than
wall time on other programs. Two workers share the photos evenly; their start is not part of it.

    python experiments/benchmarks/domains.py FOLDER [--photos N] [--json FILE]

The last line is the CPU time relative to a minute of two cores.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from common import count_child_seconds, make_parser, report
from PIL import Image

from realsr.imaging import list_images, read_uint8

SIDE, QUALITY = 1024, 92  # pixels; JPEG's
LIMIT = 2 * 60.0  # CPU seconds


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("folder", type=Path, help="photos")
    parser.add_argument("--photos", type=int, default=100, help="in each set")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_sets(options.folder, root, options.photos)
        wall, cpu = time.perf_counter(), count_child_seconds()
        subprocess.run(
            [sys.executable, "-m", "realsr.compare_domains", f"a={root / 'a'}", f"b={root / 'b'}"]
            + ["workers=0"],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wall, cpu = time.perf_counter() - wall, count_child_seconds() - cpu
    results = {
        "photos": f"{options.photos} and {options.photos} of {SIDE}x{SIDE} pixels",
        "cpu_seconds": round(cpu, 1),
        "wall_seconds": round(wall, 1),
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "ratio": round(cpu / LIMIT, 3),
    }
    report(results, options.json)


def write_sets(folder: Path, root: Path, count: int) -> None:
    """Write `count` crops of the folder's photos in `a`, and the same mirrored in `b`."""
    for side in ("a", "b"):
        (root / side).mkdir()
    for index, crop in enumerate(islice(cycle(cut(folder)), count)):
        for side, image in (("a", crop), ("b", crop[:, ::-1])):
            Image.fromarray(image).save(root / side / f"{index:03}.jpg", quality=QUALITY)


def cut(folder: Path) -> Iterator[np.ndarray]:
    for path in list_images(folder):
        image = read_uint8(path)
        for top in range(0, image.shape[0] - SIDE + 1, SIDE):
            for left in range(0, image.shape[1] - SIDE + 1, SIDE):
                yield image[top : top + SIDE, left : left + SIDE]


if __name__ == "__main__":
    main()
