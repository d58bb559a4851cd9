"""Measure the peak memory of `realsr.upscale` on 48 megapixels, relative to the result.

The command runs in a separate process, from file to file, on the CPU at scale 4, with a small
generator and its automatic tile size; the operating system reports the peak memory. The photo is a
noisy pattern whose result compresses as badly as that of a photo. For comparison: a program that
holds the whole result in 8 bits needs `result_MB`, in float32 four times as much.

    python experiments/benchmarks/upscale_memory.py [--width W] [--height H] [--features 4]
        [--format png] [--json F]

The last line is the fraction of the size of the result, `ratio 0.5` for half of it.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import make_parser, peak_memory, report
from torch import nn

from realsr.imaging import write_uint8
from realsr.networks import build_generator
from realsr.weights import save_generator

SCALE = 4


def main() -> None:
    """Measure, and tell."""
    parser = make_parser(__doc__)
    parser.add_argument("--width", type=int, default=8000)
    parser.add_argument("--height", type=int, default=6000)
    parser.add_argument("--features", type=int, default=4)
    parser.add_argument("--format", default="png")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = measure(
            Path(folder), options.height, options.width, options.features, options.format
        )
    report(results, options.json)


def measure(folder: Path, height: int, width: int, features: int, kind: str) -> dict[str, object]:
    """Run the command on a synthetic photo; return time and memory."""
    config = {"name": "rrdb", "features": features, "blocks": 1, "growth": features}
    save_generator(folder / "small.safetensors", make_generator(config), config, SCALE)
    write_uint8(folder / f"photo.{kind}", make_photo(height, width))
    begin = time.perf_counter()
    paths = (
        f"input={folder}/photo.{kind}",
        f"output={folder}/result.{kind}",
        f"weights={folder}/small.safetensors",
    )
    subprocess.run([sys.executable, "-m", "realsr.upscale", *paths, "device=cpu"], check=True)
    seconds = time.perf_counter() - begin
    peak = peak_memory(resource.RUSAGE_CHILDREN)
    photo, result = (s * s * height * width * 3 / 1024**2 for s in (1, SCALE))
    return {
        "width": width,
        "height": height,
        "features": features,
        "format": kind,
        "seconds": round(seconds, 1),
        "file_MB": round((folder / f"result.{kind}").stat().st_size / 1024**2),
        "photo_MB": round(photo),
        "result_MB": round(result),
        "peak_MB": round(peak),
        "ratio": round(peak / result, 3),
    }


def make_generator(config: dict[str, Any]) -> nn.Module:
    """Return a generator whose results have contrast, so they compress as badly as photos."""
    torch.manual_seed(0)
    generator = build_generator(config, SCALE)
    with torch.no_grad():
        for module in generator.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.mul_(10)  # undo the small initialisation
        generator.get_parameter("conv_last.bias").fill_(0.5)
    return generator


def make_photo(height: int, width: int) -> np.ndarray:
    """Return waves of several lengths with noise."""
    y, x = np.ogrid[:height, :width]
    photo = np.random.default_rng(0).integers(-8, 8, (height, width, 3), np.int16)
    for channel, length in enumerate((311.0, 97.0, 29.0)):
        photo[..., channel] += (127 + 80 * np.sin(x / length) * np.sin(y / length)).astype(np.int16)
    return photo.clip(0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
