"""Peak memory of `realsr.upscale` on 48 megapixels, enlarged four times on the CPU, beside the result's own size.

The command runs as a user calls it, in a process of its own, from file to file, with a small generator and tiles of
the size that it chooses; the system tells the most memory that the process ever held. The photo is a noisy pattern,
whose result compresses as badly as photos do. What is compared: any program that holds the whole result in 8 bit needs
`result_MB`, one that holds it in float32 four times as much.

    python experiments/benchmarks/upscale_memory.py [--width W] [--height H] [--features 4] [--format png] [--json F]

The last line is the share of the result's size, `ratio 0.5` for half of it.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import report
from torch import nn

from realsr.imaging import write_uint8
from realsr.networks.build import build_generator
from realsr.weights import save_generator

SCALE = 4


def main() -> None:
    """Measure, and tell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=int, default=8000)
    parser.add_argument("--height", type=int, default=6000)
    parser.add_argument("--features", type=int, default=4)
    parser.add_argument("--format", default="png")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = measure(Path(folder), asked.height, asked.width, asked.features, asked.format)
    report(results, asked.json)


def measure(folder: Path, height: int, width: int, features: int, kind: str) -> dict[str, object]:
    """Run the command on a made photo, and return what it took."""
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
    # kilobytes on Linux, bytes on macOS; of the largest child process, and this command starts no others
    unit = 1024**2 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / unit
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
    """A generator whose results have contrast, and so compress as badly as photos do."""
    torch.manual_seed(0)
    generator = build_generator(config, SCALE)
    with torch.no_grad():
        for module in generator.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.mul_(10)  # what the initialisation has made smaller
        generator.get_parameter("conv_last.bias").fill_(0.5)
    return generator


def make_photo(height: int, width: int) -> np.ndarray:
    """Waves of several lengths with noise."""
    y, x = np.ogrid[:height, :width]
    photo = np.random.default_rng(0).integers(-8, 8, (height, width, 3), np.int16)
    for channel, length in enumerate((311.0, 97.0, 29.0)):
        photo[..., channel] += (127 + 80 * np.sin(x / length) * np.sin(y / length)).astype(np.int16)
    return photo.clip(0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
