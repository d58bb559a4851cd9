"""Measure the overlap of tiles that makes tiled upscaling equal to upscaling the whole photo.

Two measurements on crops of 256x256 of real photos, with the published DF2K generator in float32:

- by distance: the network runs on the whole crop and on its inner 128x128 pixels. The difference,
  in 8-bit levels, at a distance of d pixels from the border of the inner part is the error of a
  tile that is cut off at d.
- tiled: `upscale_image` with tiles of several sizes and overlaps, compared with the whole.

    python experiments/tile_overlap/study.py --json FILE [--tilings 128:32,128:48] [--device cpu]
        PHOTO[@TOP,LEFT] ...

The default crop is the middle of a photo. Results are added to FILE and not computed again. Without
photos the tables of FILE are printed.
"""

import argparse
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from realsr.core.files import write_bytes
from realsr.imaging import read_uint8
from realsr.inference.model import SRModel
from realsr.inference.tiling import Tiles, place_tiles, upscale_image
from realsr.weights import load_generator

SIDE, INNER = 256, 128


def read_crop(photo: str) -> Tensor:
    name, _, place = photo.partition("@")
    image = read_uint8(Path(name))
    height, width = image.shape[:2]
    top, left = map(int, place.split(",")) if place else ((height - SIDE) // 2, (width - SIDE) // 2)
    return (
        torch.from_numpy(image[top : top + SIDE, left : left + SIDE].copy())
        .permute(2, 0, 1)
        .float()
        / 255
    )


def levels(image: Tensor) -> np.ndarray:
    return (image.clamp(0, 1) * 255).cpu().numpy()


def by_distance(model: SRModel, lr: Tensor, full: np.ndarray) -> list[float]:
    """Return the largest difference at each distance in LR pixels from the inner border."""
    low = (SIDE - INNER) // 2
    inner = levels(run(model, lr[:, low : low + INNER, low : low + INNER]))
    high = slice(model.scale * low, model.scale * (low + INNER))
    worst = np.abs(inner - full[:, high, high]).max(0)
    place = np.arange(model.scale * INNER)
    nearest = np.minimum(place, place[::-1]) // model.scale
    ring = np.minimum(nearest[:, None], nearest[None])
    return [round(float(worst[ring == d].max()), 3) for d in range(INNER // 2)]


def by_tiling(model: SRModel, lr: Tensor, full: np.ndarray, tiles: Tiles) -> dict[str, float]:
    """Return differences in levels before and after rounding, and the relative cost."""
    result = levels(upscale_image(model, lr, tiles))
    exact, steps = np.abs(result - full), np.abs(result.round() - full.round())
    starts, size = place_tiles(SIDE, tiles)
    return {
        "max": round(float(exact.max()), 3),
        "p99.9": round(float(np.quantile(exact, 0.999)), 4),
        "rounded_max": int(steps.max()),
        "share_1": float((steps == 1).mean()),
        "share_more": float((steps > 1).mean()),
        "cost": round((len(starts) * size / SIDE) ** 2, 3),
    }


@torch.inference_mode()
def run(model: SRModel, lr: Tensor) -> Tensor:
    return model.run(lr[None].to(model.device))[0]


def tables(facts: dict[str, Any]) -> str:
    """Return both measurements as Markdown."""
    distances = [4, 8, 16, 24, 32, 36, 40, 44, 48]
    lines = [
        "| crop | " + " | ".join(map(str, distances)) + " |",
        "|---|" + "---|" * len(distances),
    ]
    for name, row in facts.items():
        lines.append(
            f"| {name} | " + " | ".join(f"{row['by_distance'][d]:.2f}" for d in distances) + " |"
        )
    lines += [
        "",
        "| crop | tile : overlap | cost | max | 99.9 % | max in 8 bits | off by 1 | by more |",
        "|---|" + "---|" * 7,
    ]
    for name, row in facts.items():
        for key, result in sorted(
            row["tiled"].items(), key=lambda entry: [int(n) for n in reversed(entry[0].split(":"))]
        ):
            shares = f"{100 * result['share_1']:.4f} % | {100 * result['share_more']:.4f} %"
            lines.append(
                f"| {name} | {key} | {result['cost']:.2f} | {result['max']:.2f} | {result['p99.9']:.3f} "
                f"| {result['rounded_max']} | {shares} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", nargs="*", metavar="PHOTO[@TOP,LEFT]")
    parser.add_argument("--tilings", default="", help="size:overlap,…")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    facts = json.loads(options.json.read_text()) if options.json.exists() else {}
    if not options.photos:
        print(tables(facts))
        return
    device = torch.device(options.device)
    generator, scale = load_generator("df2k")
    model = SRModel(scale, device, generator.to(device))
    pairs = [tuple(map(int, pair.split(":"))) for pair in options.tilings.split(",") if pair]
    for photo in options.photos:
        start, full = time.perf_counter(), None
        name = "@".join([Path(photo.partition("@")[0]).name, *photo.split("@")[1:]])
        row = facts.setdefault(name, {"date": datetime.now(UTC).date().isoformat(), "tiled": {}})
        lr = read_crop(photo)
        for size, overlap in [(0, 0), *pairs]:
            key = f"{size}:{overlap}"
            if key in row["tiled"] or (size == 0 and "by_distance" in row):
                continue
            if full is None:
                full = levels(run(model, lr))
            if size:
                row["tiled"][key] = by_tiling(model, lr, full, Tiles(size, overlap))
            else:
                row["by_distance"] = by_distance(model, lr, full)
            write_bytes(options.json, json.dumps(facts, indent=1).encode() + b"\n")
        print(name, f"{time.perf_counter() - start:.1f} s", row, flush=True)


if __name__ == "__main__":
    main()
