"""Measure the CPU time that `realsr.upscale` of a small photo needs beyond `import torch`.

Separate processes, by turns: `import torch`; the command until its first tile starts; the whole
command. Each has one thread. The generator has the published size and random weights; the photo has
24x24 pixels. CPU times are the minimum over rounds, user and system. The first run, in which numba
may compile, does not count. `ratio` is the CPU time before the first tile, minus that of
`import torch`, over the goal of 1.0 s.

    python experiments/benchmarks/startup.py [--rounds 5] [--json FILE]
"""

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from common import count_child_seconds, make_parser, report, take_turns

GOAL = 1.0
SIDE = 24
IMPORT = "import torch"
COMMAND = """
import sys
from realsr.api.command import run_command

if {stop}:
    import os
    from realsr.inference import tiling

    tiling._upscale_row = lambda *arguments: os._exit(0)
run_command("upscale")
"""


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = compare(make_arguments(Path(folder)), options.rounds)
    report(results, options.json)


def make_arguments(folder: Path) -> list[str]:
    """Write a photo and a generator, and return the command line that upscales it."""
    import numpy as np

    from realsr.imaging import write_uint8
    from realsr.networks.rrdb import RRDB
    from realsr.weights.generators import save_generator

    photo, weights = folder / "photo.png", folder / "generator.safetensors"
    write_uint8(photo, np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8))
    size = {"features": 64, "blocks": 23, "growth": 32}
    save_generator(weights, RRDB(4, **size), {"name": "rrdb", **size}, 4)
    output = f"output={folder / 'result.png'}"
    return [str(photo), output, f"weights={weights}", "device=cpu", "overwrite=true"]


def compare(arguments: list[str], rounds: int) -> dict[str, Any]:
    """Return the CPU seconds of all processes, and their differences."""
    programs = {
        "import_torch": [IMPORT],
        "first_tile": [COMMAND.format(stop=True), *arguments],
        "whole_command": [COMMAND.format(stop=False), *arguments],
    }
    tasks = {name: partial(run, program) for name, program in programs.items()}
    tasks["whole_command"]()  # numba may compile
    seconds = take_turns(tasks, rounds, count_child_seconds)
    least = {name: min(values) for name, values in seconds.items()}
    results: dict[str, Any] = {f"{name}_seconds": round(value, 3) for name, value in least.items()}
    for name in ("first_tile", "whole_command"):
        results[f"{name}_beyond_torch"] = round(least[name] - least["import_torch"], 3)
    return results | {"ratio": round(results["first_tile_beyond_torch"] / GOAL, 3)}


def run(program: list[str]) -> None:
    """Run a Python process with one thread: program text and arguments."""
    subprocess.run(
        [sys.executable, "-c", *program],
        check=True,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


if __name__ == "__main__":
    main()
