"""Measure rims of objects in transparent surroundings, with and without `fill_transparent`.

A disc of one colour, whose transparent surroundings are black in the file, is upscaled and
composited on its own colour. The largest deviation from the colour, in 8-bit levels, is `plain` if
the model upscales the samples of the file, `filled` if they are filled first, as in
`realsr.upscale`, and `opaque` for an opaque photo of the colour, to which alpha is added
afterwards. The time and the memory of filling a large photo are also measured.

    python experiments/benchmarks/transparency.py [--weights bicubic df2k] [--side 48] [--width W]
        [--height H] [--json F]

The last line is the ratio of `filled` and `plain` for the white disc with hard alpha and the worst
model.
"""

import time
import tracemalloc
from typing import Any

import numpy as np
import torch
from common import make_parser, report

from realsr.imaging import fill_transparent
from realsr.inference.model import BICUBIC, SRModel, load_model
from realsr.inference.tiling import Tiles, upscale_bands

COLOURS = {
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "gray": (128, 128, 128),
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "teal": (20, 200, 120),
}


def main() -> None:
    """Measure, and tell."""
    parser = make_parser(__doc__)
    parser.add_argument("--weights", nargs="+", default=[BICUBIC, "df2k"])
    parser.add_argument("--side", type=int, default=48)
    parser.add_argument("--width", type=int, default=6000)
    parser.add_argument("--height", type=int, default=4000)
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    for weights in arguments.weights:
        model = load_model(weights, torch.device("cpu"), "fp32", scale=4)
        for soft in (False, True):
            for name, colour in COLOURS.items():
                results[f"{weights}, {'soft' if soft else 'hard'} {name}"] = measure(
                    model, colour, soft, arguments.side
                )
    results |= measure_filling(arguments.height, arguments.width)
    white = [results[f"{weights}, hard white"] for weights in arguments.weights]
    results["ratio"] = round(max(row["filled"] / row["plain"] for row in white), 3)
    report(results, arguments.json)


def measure(model: SRModel, colour: tuple[int, ...], soft: bool, side: int) -> dict[str, float]:
    """Return the largest deviations of a disc of a colour."""
    disc = draw_disc(colour, soft, side, side)
    opaque_fill = disc.copy()
    fill_transparent(opaque_fill)
    opaque = disc.copy()
    opaque[..., :3] = colour
    images = {"plain": disc, "filled": opaque_fill, "opaque": opaque}
    return {name: _deviate(model, samples, colour) for name, samples in images.items()}


def measure_filling(height: int, width: int) -> dict[str, float]:
    """Return the time and the additional memory of filling a large photo."""
    photo = draw_disc((200, 100, 50), True, height, width)
    begin = time.perf_counter()
    fill_transparent(photo.copy())
    seconds = time.perf_counter() - begin
    tracemalloc.start()
    fill_transparent(photo)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {
        "photo_MB": round(photo.nbytes / 2**20),
        "fill_MB": round(peak / 2**20),
        "fill_s": round(seconds, 2),
    }


def draw_disc(colour: tuple[int, ...], soft: bool, height: int, width: int) -> np.ndarray:
    """Return a photo (height, width, 4) uint8 that is black under transparent pixels."""
    y, x = np.ogrid[:height, :width]
    radius, edge = min(height, width) / 3, min(height, width) / 8 if soft else 0.001
    distance = np.hypot(
        (y - (height - 1) / 2).astype(np.float32), (x - (width - 1) / 2).astype(np.float32)
    )
    samples = np.zeros((height, width, 4), np.uint8)
    samples[..., 3] = np.rint(np.clip((radius - distance) / edge, 0, 1) * 255)
    samples[samples[..., 3] > 0, :3] = colour
    return samples


def _deviate(model: SRModel, samples: np.ndarray, colour: tuple[int, ...]) -> float:
    result = np.concatenate(list(upscale_bands(model, samples, Tiles(512, 96)))).astype(np.float64)
    return round(float((np.abs(result[..., :3] - colour) * result[..., 3:] / 255).max()), 1)


if __name__ == "__main__":
    main()
