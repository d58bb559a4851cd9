"""Estimate the kernels of simulated cameras from sets of 1, 4 and 16 of their photos.

    python experiments/kernel_recovery/camera_sets.py --set report --photos DIR --json work/camera_sets.json

--photos: a folder with the photographs of `SCENES`; the others are scikit-image's. README.md has the
protocol and the results.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from cases import BORDER, load_hr
from scipy import ndimage

from realsr import api
from realsr.core.files import write_bytes
from realsr.core.progress import Progress
from realsr.core.seeding import numpy_generator
from realsr.data.degradations.noise_jpeg import compress
from realsr.imaging import (
    IMAGE_SUFFIXES,
    apply_kernel,
    crop_to_multiple,
    read_uint8,
    shrink_uint8,
    to_float,
    to_uint8,
)
from realsr.imaging.kernel_shapes import Kernel, align, kernel_psnr, normalise
from realsr.kernels.camera import Camera, sharp_kernel, turn
from realsr.kernels.estimator import KernelEstimate, NoKernelError, Observation, PhotoTags
from realsr.kernels.gaussian import gaussian_kernel
from realsr.kernels.spectral import matrix_exponential

# Photographs of a folder, shrunk by 4, then scikit-image's; the sets share none. Of each photograph
# of the folder one or more crops of 512x512 are taken.
SCENES = {
    "tune": (
        {"oakland-zoo-otters": 2, "extreme-desert-hike": 2, "DJI_0030": 2, "DJI_0031": 2},
        ("camera", "cell", "chelsea", "clock", "coffee", "coins", "grass", "gravel"),
    ),
    "report": (
        {"casa-mila": 2, "lake-sherburne": 2, "singaporean-cityscape": 2, "canyon-wren": 1, "perched-osprey": 1},
        ("astronaut", "brick", "hubble_deep_field", "immunohistochemistry", "moon", "motorcycle", "retina", "rocket"),
    ),
}  # fmt: skip
SIDE, SIZE = 512, 21
SETS = (1, 4, 16)
VARIATION = 0.2  # of the log variance within a camera: 10 % of the width


@dataclass(frozen=True)
class Photo:
    """A simulated photo (H, W, 3) uint8 and its x2 kernel."""

    image: np.ndarray
    kernel: Kernel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--set", choices=SCENES, default="report")
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--cameras", type=int, default=3)
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    scenes = list(read_scenes(options.photos, options.set))
    results = {}
    with Progress("cameras", total=len(CONDITIONS) * options.cameras) as progress:
        for condition in CONDITIONS:
            scores = [
                score(take_photos(scenes, condition, f"{options.set}_{index}"))
                for index in range(options.cameras)
                if progress.advance() is None
            ]
            results[condition] = {
                name: [value for camera in scores for value in camera[name]] for name in scores[0]
            }
    write_bytes(options.json, json.dumps({"set": options.set, "psnr": results}, indent=1).encode())
    print(write_table(results))


def read_scenes(folder: Path, name: str) -> Iterator[np.ndarray]:
    """Yield the 16 scenes of a set, (H, W, 3) uint8 with even sides."""
    crops, photographs = SCENES[name]
    files = {path.stem: path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES}
    for photograph, count in crops.items():
        scene = shrink_uint8(read_uint8(files[photograph]), 4)
        for index in range(count):
            left = (scene.shape[1] - SIDE) * index // max(count - 1, 1)
            top = (scene.shape[0] - SIDE) // 2
            yield np.ascontiguousarray(scene[top : top + SIDE, left : left + SIDE])
    for photograph in photographs:
        scene = load_hr(photograph)
        yield np.ascontiguousarray(scene[: scene.shape[0] // 2 * 2, : scene.shape[1] // 2 * 2])


def draw_gaussian(rng: np.random.Generator) -> Callable[[float, np.random.Generator], Kernel]:
    """Return a function of a factor of the variance: kernels drawn as those of DIV2KRK."""
    variances, angle = rng.uniform(0.6, 5.0, 2), rng.uniform(0, np.pi)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    covariance = rotation @ np.diag(variances) @ rotation.T

    def make(factor: float, rng: np.random.Generator) -> Kernel:
        roughness = 1 + rng.uniform(-0.25, 0.25, (SIZE, SIZE))
        return gaussian_kernel(factor * covariance, SIZE, SIZE // 2 + 0.5) * roughness

    return make


def draw_disc(rng: np.random.Generator) -> Callable[[float, np.random.Generator], Kernel]:
    """Return a function that makes defocus discs with a soft rim."""
    radius = rng.uniform(1.5, 3.0)

    def make(factor: float, rng: np.random.Generator) -> Kernel:
        distance = np.hypot(*(np.mgrid[:SIZE, :SIZE] - SIZE // 2 - 0.5))
        return 1 / (1 + np.exp((distance - radius * np.sqrt(factor)) / 0.3))

    return make


def draw_motion(rng: np.random.Generator) -> Callable[[float, np.random.Generator], Kernel]:
    """Return a function that makes straight motion, blurred by a Gaussian of 0.7 pixels."""
    length, angle = rng.uniform(4, 9), rng.uniform(0, np.pi)

    def make(factor: float, rng: np.random.Generator) -> Kernel:
        steps = np.linspace(-0.5, 0.5, 41) * length * np.sqrt(factor)
        points = np.stack([steps * np.sin(angle), steps * np.cos(angle)], axis=1)
        centres = points + SIZE // 2 + 0.5
        return sum(gaussian_kernel(0.5 * np.eye(2), SIZE, tuple(centre)) for centre in centres)

    return make


def sharpen(kernel: Kernel, amount: float) -> Kernel:
    """Return the kernel followed by an unsharp mask of 1 LR pixel, which is 2 pixels of HR."""
    wide = np.pad(kernel, 8)
    return wide + amount * (wide - ndimage.gaussian_filter(wide, 2, mode="constant"))


@dataclass(frozen=True)
class Condition:
    """What the cameras of a condition do. soft: probability that a scene is blurred beforehand."""

    draw: Callable[[np.random.Generator], Callable[[float, np.random.Generator], Kernel]] = (
        draw_gaussian
    )
    noise: float = 0.0
    sharp: bool = False
    jpeg: bool = False
    soft: float = 0.0


CONDITIONS = {
    "Gaussian": Condition(),
    "noise 3": Condition(noise=3),
    "noise 8": Condition(noise=8),
    "JPEG 75 to 95": Condition(jpeg=True),
    "half of the scenes soft": Condition(soft=0.5),
    "sharpened": Condition(sharp=True),
    "defocus": Condition(draw=draw_disc),
    "motion": Condition(draw=draw_motion),
}


def take_photos(scenes: list[np.ndarray], name: str, camera: str) -> list[Photo]:
    """Take a photo of each scene by a camera of a condition."""
    condition = CONDITIONS[name]
    rng = numpy_generator(0, "camera_sets", name, camera)
    make, amount = condition.draw(rng), rng.uniform(0.4, 1.0) if condition.sharp else 0.0
    photos = []
    for scene in scenes:
        kernel = make(float(np.exp(rng.normal(0, VARIATION))), rng)
        kernel = normalise(align(normalise(kernel)))
        if amount:
            kernel = normalise(sharpen(kernel, amount))
        hr = crop_to_multiple(to_float(scene), 2)
        if rng.random() < condition.soft:
            width = rng.uniform(0.7, 1.5)
            hr = torch.from_numpy(ndimage.gaussian_filter(hr.numpy(), (0, width, width)))
        lr = apply_kernel(hr, kernel, 2)
        noise = rng.standard_normal(tuple(lr.shape), dtype=np.float32)
        image = to_uint8((lr + torch.from_numpy(noise) * (condition.noise / 255)).clamp(0, 1))
        photos.append(
            Photo(compress(image, int(rng.integers(75, 96))) if condition.jpeg else image, kernel)
        )
    return photos


class Memory:
    """A source photo whose pixels are in memory."""

    tags = PhotoTags(None, None, None, 1, 0, 0)

    def __init__(self, name: str, image: np.ndarray):
        self.name, self._image = name, image

    def read(self) -> tuple[np.ndarray, None]:
        return self._image, None


def score(photos: list[Photo]) -> dict[str, list[float]]:
    """Return the PSNR of the mean kernel of each photo's draws, by estimator and set."""
    values = dict(api.load_config("estimate_kernels", ["+track=dped", "kernels=camera"]).kernels)
    values = {key: value for key, value in values.items() if key not in ("name", "gates")}
    values |= {"border": BORDER, "workers": 0, "sharpening": tuple(values["sharpening"])}
    sharpening, plain = Camera(**values), Camera(**values | {"sharpening": (0.0, 0.0)})
    estimators = {"camera, sharpening=[0,0]": plain, "camera": sharpening}
    by_name = {f"{index:02d}": photo for index, photo in enumerate(photos)}
    inputs = [Memory(name, photo.image) for name, photo in by_name.items()]
    scores: dict[str, list[float]] = {}
    for label, estimator in estimators.items():
        observations = _observe(estimator, inputs)
        if estimator is plain:
            scores["spectral"] = [
                _measure_spectral(item, by_name[name]) for name, item in observations.items()
            ]
        for count in SETS:
            names = sorted(observations)
            rng = numpy_generator(0, "sets", count)
            rng.shuffle(names)
            parts = [names[start : start + count] for start in range(0, len(names), count)]
            scores[f"{label}: {count}"] = [
                value
                for part in parts
                for value in _measure(estimator, {n: observations[n] for n in part}, by_name)
            ]
    return scores


def _observe(estimator: Camera, inputs: list[Memory]) -> dict[str, Observation]:
    observations = {}
    for batch in estimator.observe(inputs, 0, lambda _: None):  # type: ignore[arg-type]
        for name, item in batch.items():
            if not isinstance(item, NoKernelError):  # a camera's photos have one size
                observations[name] = Observation(item.values | {"group": np.zeros(3)})
    return observations


def _measure(
    estimator: Camera, observations: dict[str, Observation], photos: dict[str, Photo]
) -> list[float]:
    estimates: dict[str, KernelEstimate] = dict(estimator.estimate(observations, 0))
    return [
        kernel_psnr(photos[name].kernel, np.mean(item.kernels[2], axis=0))
        for name, item in estimates.items()
    ]


def _measure_spectral(observation: Observation, photo: Photo) -> float:
    """Return the PSNR of the fit of a Gaussian to one photo without sharpening, as by `spectral`."""
    values = observation.values
    fit = values["fits"][0]
    covariance = matrix_exponential(turn(fit) if values["portrait"] else fit)
    return kernel_psnr(photo.kernel, sharp_kernel(covariance, 0, 1, 2))


def write_table(results: dict[str, dict[str, list[float]]]) -> str:
    """Return a Markdown table: conditions down, estimators across; mean and lowest PSNR in dB."""
    names = list(next(iter(results.values())))
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for condition, scores in results.items():
        cells = [f"{np.mean(scores[n]):.1f} ({min(scores[n]):.1f})" for n in names]
        lines.append(f"| {condition} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
