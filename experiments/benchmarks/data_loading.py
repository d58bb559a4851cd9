"""Measure crops per second from the memory-mapped cache and from PNG files.

Two sources of the same batches are compared: `cache_pairs`, which decodes all pairs once, and
`decode_pairs` without memory, which is how `trainer.cache=false` reads data sets larger than the
memory. All other code is the same: data set, degradation, workers, transfer to the main process,
which discards the batches. The two take turns, so that other load on the machine affects both.
Rates exclude the first batches, when workers start and files are not yet in the page cache. Pairs
are made from scikit-image's photos, HR 1024x768 and LR a quarter of it. Crops are HR 128 and LR 32,
batch 16. From the cache: no noise; noise (as dped: patches are part of the batch); noise and JPEG
(as df2k_jpeg: applied by the workers). From PNG only noise, since decoding dominates.

    python experiments/benchmarks/data_loading.py [--pairs N] [--workers N] [--steps N] [--rounds N]
        [--json FILE]

Rates are medians over rounds, with the lowest and the highest. `unpack_us` is the cost of the
device's part on one CPU core: conversion to floats and noise, in microseconds per crop. The last
line is the ratio of the rates of cache and PNG, with noise.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from common import make_parser, report

from realsr.data.cache import DecodedImages, PairImages, cache_images, cache_pairs
from realsr.data.dataset import CropDataset
from realsr.data.degradations.degradation import OnlineDegradation, to_images
from realsr.data.degradations.identity import Identity
from realsr.data.degradations.noise import Noise
from realsr.data.degradations.noise_jpeg import NoiseJPEG
from realsr.data.loading import load_batches
from realsr.data.pairs import list_pairs
from realsr.imaging import write_uint8

BATCH, CROP, SCALE = 16, 128, 4
SAMPLES = ("astronaut", "chelsea", "coffee")


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--steps", type=int, default=1500, help="that are timed from the cache; of PNG a hundredth"
    )
    parser.add_argument("--rounds", type=int, default=5)
    arguments = vars(parser.parse_args())
    json_path = arguments.pop("json")
    report(compare(**arguments), json_path)


def compare(pairs: int, workers: int, steps: int, rounds: int) -> dict[str, Any]:
    """Return crops per second of both sources with each degradation, and their ratio."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        patches = write_data(folder, pairs)
        pair_files = list_pairs(folder, SCALE)
        start = time.perf_counter()
        cache = cache_pairs(folder / "cache", pair_files)
        seconds = time.perf_counter() - start
        noise = cache_images(folder / "cache/noise.u8", patches)
        files = [path for pair in pair_files for path in (pair.lr, pair.hr)]
        png_pairs = PairImages(DecodedImages(files, memory=0))
        degradations: dict[str, OnlineDegradation] = {
            "plain": Identity(),
            "noise": Noise("random", noise),
            "jpeg": NoiseJPEG((30, 95), "random", "quality", noise, []),
        }
        rates: dict[str, list[float]] = {
            kind: [] for kind in ("cache_plain", "cache_noise", "png_noise", "cache_jpeg")
        }
        for _ in range(rounds):
            for kind, values in rates.items():
                source, _, name = kind.partition("_")
                degradation = degradations[name]
                if source == "cache":
                    values.append(
                        measure(cache, degradation, workers, first=steps // 10, steps=steps)
                    )
                else:
                    values.append(
                        measure(
                            png_pairs,
                            degradation,
                            workers,
                            first=workers,
                            steps=max(1, steps // 100),
                        )
                    )
        unpacking = measure_unpack(cache, degradations["noise"])
    median = {kind: statistics.median(values) for kind, values in rates.items()}
    results: dict[str, Any] = {
        "pairs": pairs,
        "workers": workers,
        "make_cache_seconds": round(seconds, 2),
    }
    for kind, values in rates.items():
        results[f"{kind}_per_second"] = round(median[kind], 1)
        results[f"{kind}_range"] = [round(min(values), 1), round(max(values), 1)]
    results["unpack_us"] = round(unpacking * 1e6, 1)
    results["ratio"] = round(median["cache_noise"] / median["png_noise"], 1)
    return results


def measure(
    images: PairImages, degradation: OnlineDegradation, workers: int, first: int, steps: int
) -> float:
    """Return crops per second over a number of steps, after the first steps."""
    dataset = CropDataset(images, BATCH, CROP, SCALE, degradation, seed=0)
    batches = iter(load_batches(dataset, 0, first + steps, workers))
    for _ in range(first):
        next(batches)
    start = time.perf_counter()
    crops = sum(len(batch["hr"]) for batch in batches)
    return crops / (time.perf_counter() - start)


def measure_unpack(images: PairImages, degradation: OnlineDegradation) -> float:
    """Return the seconds per crop of the conversion to floats, on one core."""
    batch = CropDataset(images, BATCH, CROP, SCALE, degradation, seed=0)[0]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times = []
    for _ in range(100):
        start = time.perf_counter()
        degradation.apply(batch), to_images(batch["hr"])
        times.append(time.perf_counter() - start)
    torch.set_num_threads(threads)
    return min(times) / BATCH


def write_data(folder: Path, count: int) -> list[Path]:
    """Write pairs into HR/ and LR/, and noise patches; return the files of the patches."""
    from skimage import data

    for kind in ("HR", "LR", "noise"):
        (folder / kind).mkdir()
    photos = [getattr(data, name)() for name in SAMPLES]
    patches = []
    for index in range(count):
        rng = np.random.default_rng(index)
        photo = photos[index % len(photos)]
        top, left = (int(rng.integers(side - 200)) for side in photo.shape[:2])
        hr = cv2.resize(
            photo[top : top + 200, left : left + 200], (1024, 768), interpolation=cv2.INTER_CUBIC
        )
        hr = (hr + rng.normal(0, 2, hr.shape)).clip(0, 255).astype(np.uint8)
        lr = cv2.resize(hr, (1024 // SCALE, 768 // SCALE), interpolation=cv2.INTER_AREA)
        write_uint8(folder / f"HR/{index:03}.png", hr)
        write_uint8(folder / f"LR/{index:03}.png", lr)
        patches.append(folder / f"noise/{index:03}.png")
        write_uint8(patches[-1], rng.normal(110, 5, (256, 256, 3)).astype(np.uint8))
    return patches


if __name__ == "__main__":
    main()
