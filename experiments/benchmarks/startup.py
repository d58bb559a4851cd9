"""Measure the CPU time of `realsr upscale` from the command to the first tile, beside `import torch`.

    python experiments/benchmarks/startup.py [--weights df2k] [--rounds 5] [--json FILE]

CPU time of one thread, so that other load on the machine matters less; the median over rounds counts.
The command upscales an image of 16x16 pixels and ends where its first tile begins. It includes
the configuration, the weights and the measurement of memory; with numba (extra `fast`) also its
import and its cache of machine code. All take turns. The last line is the difference in seconds
without numba, as `pip install realsr` has it.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import report

from realsr.imaging import write_uint8

TORCH = "import torch"
# The first call of `_upscale` reads the first tile.
FIRST_TILE = """
import sys
import realsr.inference.tiling as tiling
def stop(*arguments):
    print("first tile", flush=True)
    sys.exit(0)
tiling._upscale = stop
sys.argv = ["realsr", "upscale", *sys.argv[1:]]
from realsr import cli
cli.main()
"""
WITHOUT_NUMBA = "import sys; sys.modules['numba'] = None\n" + FIRST_TILE
CODES = {"torch": TORCH, "upscale_with_numba": FIRST_TILE, "upscale": WITHOUT_NUMBA}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", default="df2k")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in CODES}
    with tempfile.TemporaryDirectory() as folder:
        photo, result = Path(folder) / "photo.png", Path(folder) / "big.png"
        write_uint8(photo, np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
        keys = [str(photo), f"output={result}", f"weights={options.weights}", "device=cpu"]
        for number in range(options.rounds + 1):
            for name, code in CODES.items():
                seconds = measure(code, keys)
                if number:  # the first round fills caches
                    times[name].append(seconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    results: dict[str, Any] = {f"{name}_seconds": round(v, 3) for name, v in medians.items()}
    for name in ("upscale_with_numba", "upscale"):
        results[f"{name}_difference"] = round(medians[name] - medians["torch"], 3)
    report(results, options.json)


def measure(code: str, keys: list[str]) -> float:
    """Return the CPU seconds, user and system, of Python code in a process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run(
        [sys.executable, "-c", code, *keys],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    if code != TORCH and "first tile" not in ended.stdout:
        raise RuntimeError(f"the command ended before its first tile:\n{ended.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
