"""Does compare_domains find known distances, and none where there is none?

A simulated camera takes clean photos as scenes (simulation/camera_model.py: a kernel, noise that depends on
brightness). Set a: its photos of every second scene. Set b: LR made from the other scenes by
degradations of known distance from the camera, 0 (the camera itself) to 1:

- `blur`: kernels from the camera's to bicubic, with the camera's noise.
- `noise`: noise levels from the camera's to none, with the camera's kernel.
- `both`: both together; at distance 1 clean bicubic LR.

    python experiments/domain_gap/study.py --photos DIR --json FILE

--photos: clean photos of 4 megapixels or more; six of scikit-image are added.
"""

import argparse
import json
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from realsr.core.seeding import numpy_generator
from realsr.domains.comparison import PATCHES, Domain, compare_domains
from realsr.domains.measurement import PhotoMeasurement, choose_regions, measure_regions
from realsr.imaging import list_images, read_uint8, resize, shrink_uint8, to_float, to_uint8
from realsr.simulation.camera_model import Camera, anisotropic_kernel, load_photograph

SCALE, SHRINK = 2, 3  # shrinking removes most blur, noise and JPEG of the photos
SIDE = 1536  # of scenes, at most
PHOTOGRAPHS = (
    "astronaut",
    "coffee",
    "chelsea",
    "rocket",
    "stereo_motorcycle",
    "immunohistochemistry",
)
DISTANCES = (0.0, 0.25, 0.5, 0.75, 1.0)
BICUBIC_WIDTH = 0.7  # of a Gaussian about as wide as bicubic's kernel at scale 2


@dataclass(frozen=True)
class CameraKind:
    """widths: of the kernel, pixels of the scene. levels: of the noise, lowest and highest, of 255."""

    widths: tuple[float, float]
    levels: tuple[float, float]


STUDY_CAMERA = CameraKind((2.2, 1.7), (2.0, 3.0))
LADDERS = {"both": (1, 1), "blur": (1, 0), "noise": (0, 1)}


def list_scenes(folder: Path, shrink: int) -> list[tuple[str, np.ndarray]]:
    """Return the scenes (H, W, 3) uint8 by name: photos of the folder, and of scikit-image."""
    scenes = []
    for path in list_images(folder):
        image = shrink_uint8(read_uint8(path), shrink)
        top, left = (max(0, (length - SIDE) // 2) for length in image.shape[:2])
        scenes.append((path.stem, image[top : top + SIDE, left : left + SIDE]))
    return scenes + [(name, load_photograph(name, "the study", "demo")) for name in PHOTOGRAPHS]


def degrade(
    scene: np.ndarray, name: str, blur: float, noise: float, kind: CameraKind
) -> np.ndarray:
    """Return LR (h, w, 3) uint8 at distances of kernel and noise from the camera, 0..1."""
    levels = tuple(level * (1 - noise) for level in kind.levels)
    rng = numpy_generator(0, "domain_gap", "noise", name)
    if blur == 1:
        lr = resize(to_float(scene), factor=1 / SCALE)
        level = rng.uniform(*levels) / 255
        noise_field = torch.from_numpy(rng.standard_normal(tuple(lr.shape), dtype=np.float32))
        return to_uint8(lr + level * (0.25 + 1.5 * lr.clamp(0, 1)).sqrt() * noise_field)
    widths = tuple(width + blur * (BICUBIC_WIDTH - width) for width in kind.widths)
    camera = Camera(anisotropic_kernel(25, widths, 30, SCALE), SCALE, levels)
    return to_uint8(camera(to_float(scene), rng))


def measure(
    scenes: list[tuple[str, np.ndarray]], blur: float, noise: float, kind: CameraKind = STUDY_CAMERA
) -> Domain:
    photos = []
    for name, scene in scenes:
        rng = numpy_generator(0, "domain_gap", "patches", name)
        regions = choose_regions(degrade(scene, name, blur, noise, kind), 256, rng)
        photos.append(PhotoMeasurement(name, *measure_regions(regions, PATCHES, rng), None, None))
    return Domain(Path("simulated"), photos, {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    start = time.process_time()
    scenes = list_scenes(options.photos, SHRINK)
    first, second = scenes[::2], scenes[1::2]
    camera = measure(first, 0, 0)
    rows = []
    print(f"{'degradation':12} distance accuracy (interval)   kernel distance   largest difference")
    for ladder, (blurs, noises) in LADDERS.items():
        for distance in DISTANCES if ladder == "both" else DISTANCES[1:]:
            domain = measure(second, blurs * distance, noises * distance)
            result = compare_domains(camera, domain, seed=0)
            accuracy, gap = result.accuracy, result.distance
            name = result.largest.quantity.name if result.largest else "-"
            print(
                f"{ladder:12} {distance:8.2f} {accuracy.value:.3f} ({accuracy.low:.2f}.."
                f"{accuracy.high:.2f})   {gap.value:6.3f} ({gap.low:.2f}..{gap.high:.2f})   {name}",
                flush=True,
            )
            rows.append(
                {
                    "degradation": ladder,
                    "distance": distance,
                    "accuracy": vars(accuracy),
                    "kernel_distance": vars(gap),
                    "overlap": result.overlap,
                    "halves_of_a": vars(result.halves) if result.halves else None,
                    "differences": {f.quantity.name: f.difference for f in result.findings},
                    "clear": [f.quantity.name for f in result.findings if f.is_clear],
                    "summary": result.summarise(),
                }
            )
    facts = {
        "date": time.strftime("%Y-%m-%d"),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "cpu_seconds": round(time.process_time() - start, 1),
        "photos": {"a": [name for name, _ in first], "b": [name for name, _ in second]},
        "rows": rows,
    }
    options.json.write_text(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
