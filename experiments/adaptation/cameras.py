"""The simulated cameras of the study, and the photos that they take.

Recipes are chosen with the cameras and scenes of the set `tuning` and reported with those of the set
`report`. The sets share no scene.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from skimage import data

from realsr.core.seeding import numpy_generator
from realsr.imaging import IMAGE_SUFFIXES, read_uint8, shrink_uint8, to_float, to_uint8, write_uint8
from realsr.simulation.camera_model import Camera, anisotropic_kernel

SCALE, SIDE, VERSIONS = 4, 320, 8
KERNEL_SIZE = 33


def make_camera(
    sigmas: tuple[float, float], angle: float, noise: tuple[float, float], **processing
):
    """Return a camera with a Gaussian kernel; sigmas: its standard deviations in HR pixels."""
    return Camera(anisotropic_kernel(KERNEL_SIZE, sigmas, angle, SCALE), SCALE, noise, **processing)


@dataclass(frozen=True)
class StudySet:
    """Cameras; scenes of the photos for the adaptation, and of the test photos.

    Scenes: names of files, with the factor by which they are shrunk, or of scikit-image's photos.
    clean_up: the factor of the photos to HR, where it is not 2, as `realsr.adapt` chooses it.
    """

    cameras: dict[str, Camera]
    source: tuple[str, ...]
    test: tuple[tuple[str, int], ...]
    clean_up: dict[str, int] = field(default_factory=dict)


SETS = {
    "tuning": StudySet(
        cameras={
            "mild": make_camera((1.4, 1.4), 0, (1, 2)),
            "wide": make_camera((3.0, 2.0), 70, (2, 4)),
            "sharpened": make_camera((2.4, 1.9), 110, (2, 3), sharpness=0.6, jpeg_quality=88),
            "noisy": make_camera((2.2, 2.2), 0, (8, 12), noise_width=0.6),
        },
        source=("oakland-zoo-otters", "extreme-desert-hike", "DJI_0030"),
        test=(("astronaut", 1), ("coffee", 1), ("rocket", 1), ("DJI_0031", 2)),
    ),
    "report": StudySet(
        cameras={
            "mild": make_camera((1.6, 1.6), 0, (1, 2)),
            "wide": make_camera((3.4, 2.2), 30, (2, 4)),
            "sharpened": make_camera((2.2, 2.0), 0, (2, 3), sharpness=0.8, jpeg_quality=85),
            "noisy": make_camera((2.4, 2.0), 120, (8, 14), noise_width=0.7),
        },
        source=("casa-mila", "lake-sherburne", "singaporean-cityscape"),
        test=(
            ("canyon-wren", 1),
            ("perched-osprey", 2),
            ("DJI_0021", 2),
            ("DJI_0034", 2),
            ("001H", 1),
            ("002H", 1),
            ("chelsea", 1),
            ("stereo_motorcycle", 1),
        ),
        clean_up={"noisy": 4},
    ),
}


@cache
def read_scene(photos: Path, name: str, factor: int) -> np.ndarray:
    """Return a scene (H, W, 3) uint8, with sides that are multiples of 8."""
    files = {path.stem: path for path in photos.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES}
    if name in files:
        scene = shrink_uint8(read_uint8(files[name]), factor)
    else:
        scene = getattr(data, name)()
        scene = scene[0] if isinstance(scene, tuple) else scene
    height, width = (side // 8 * 8 for side in scene.shape[:2])
    return np.ascontiguousarray(scene[:height, :width, :3])


def cut_detail(scene: np.ndarray, side: int) -> np.ndarray:
    """Return the square of a scene with the largest mean gradient, on a grid of 64 pixels."""
    gray = scene.mean(axis=2)
    gradient = np.hypot(*np.gradient(gray))
    sides = [min(side, length) for length in scene.shape[:2]]
    places = [
        (top, left)
        for top in range(0, scene.shape[0] - sides[0] + 1, 64)
        for left in range(0, scene.shape[1] - sides[1] + 1, 64)
    ]
    top, left = max(
        places, key=lambda p: gradient[p[0] : p[0] + sides[0], p[1] : p[1] + sides[1]].mean()
    )
    return np.ascontiguousarray(scene[top : top + sides[0], left : left + sides[1]])


def write_images(images: Iterator[tuple[Path, np.ndarray]]) -> None:
    """Write each image unless its file exists."""
    for path, image in images:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_uint8(path, image)


def take_photos(photos: Path, output: Path, study: StudySet) -> None:
    """Write each camera's photos (`source`), test photos (`lr`) and true pairs, and the scenes `hr`."""

    def images() -> Iterator[tuple[Path, np.ndarray]]:
        crops = {
            name: cut_detail(read_scene(photos, name, factor), SIDE) for name, factor in study.test
        }
        for name, crop in crops.items():
            yield output / "hr" / f"{name}.png", crop
        for label, camera in study.cameras.items():

            def take(scene: np.ndarray, *item: str, camera: Camera = camera) -> np.ndarray:
                return to_uint8(camera(to_float(scene), numpy_generator(0, *item)))

            for name in study.source:
                photo = take(read_scene(photos, name, 1), "source", name)
                yield output / label / "source" / f"{name}.png", photo
                clean = shrink_uint8(photo, study.clean_up.get(label, 2))
                clean = np.ascontiguousarray(
                    clean[: clean.shape[0] // 4 * 4, : clean.shape[1] // 4 * 4]
                )
                for version in range(VERSIONS):
                    file = f"{name}_{version}.png"
                    yield output / label / "true_pairs" / "HR" / file, clean
                    yield (
                        output / label / "true_pairs" / "LR" / file,
                        take(clean, "true", name, str(version)),
                    )
            for name, crop in crops.items():
                yield output / label / "lr" / f"{name}.png", take(crop, "test", name)

    write_images(images())
