"""True and estimated kernels side by side, from the study's records.

python experiments/kernel_recovery/figure.py work/recovery.jsonl experiments/kernel_recovery/results/kernels.png
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from cases import Case, at_scale, true_root
from study import read_records
from table import root_mean

from realsr.imaging import write_uint8
from realsr.imaging.kernel_shapes import Kernel, kernel_psnr
from realsr.reporting.drawing import INK, Tile, colour_values, draw_tiles, repeat_pixels, stack

WIDTH = 168
SIDES = {2: 19, 4: 37}  # pixels of a kernel shown, both about as wide as the true kernel needs


def draw(records: Sequence[dict], cases: Sequence[Case]) -> np.ndarray:
    """Draw one row per case: the true kernel and the estimates with their kernel PSNR."""
    tiles = []
    for case in cases:
        true = at_scale(true_root(case), case.scale)
        matches = [
            record for record in records if Case(*(record[key] for key in vars(case))) == case
        ]
        gans = [
            np.array(record["estimate"]) for record in matches if record["estimator"] == "kernelgan"
        ]
        kernels = {
            "KernelGAN": gans[0],
            f"mean of {len(gans)} runs": root_mean(gans),
            "spectral": next(
                np.array(record["estimate"])
                for record in matches
                if record["estimator"] == "spectral"
            ),
        }
        head = f"{case.photo}, x{case.scale}, noise {case.noise:g}"
        tiles.append(_tile(true, true, head, case.scale))
        for name, root in kernels.items():
            kernel = at_scale(root, case.scale)
            tiles.append(
                _tile(kernel, true, f"{name}: {kernel_psnr(true, kernel):.1f} dB", case.scale)
            )
    return stack([draw_tiles(tiles, 4, WIDTH, "")])


def _tile(kernel: Kernel, true: Kernel, text: str, scale: int) -> Tile:
    side = SIDES[scale]
    margin = max(0, side - len(kernel) + 1)
    canvas = np.pad(kernel, margin)
    start = len(canvas) // 2 - side // 2 + scale // 2 - 1
    crop = canvas[start : start + side, start : start + side]
    # The square root makes the low values visible, in which estimates differ most.
    levels = np.sqrt(np.clip(crop / true.max(), 0, 1))
    return Tile(repeat_pixels(colour_values(levels, "magma"), WIDTH), [(text, INK)])


if __name__ == "__main__":
    cases = [
        Case(photo, 0, scale, noise)
        for scale, noise, photos in (
            (2, 0.0, ("astronaut", "motorcycle", "rocket")),
            (2, 3.0, ("hubble_deep_field", "retina")),
            (4, 0.0, ("astronaut", "moon")),
        )
        for photo in photos
    ]
    write_uint8(Path(sys.argv[2]), draw(read_records(Path(sys.argv[1])), cases))
