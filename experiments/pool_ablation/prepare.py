"""Take the photos of the simulated cameras, and train the generator from which all arms start.

    python experiments/pool_ablation/prepare.py --photos DIR --output work/pool_ablation [--full]

--photos: a folder with the photographs of `SOURCE`, `TARGET` and `TEST`, in subfolders; the others are
scikit-image's. Written to --output: target (clean HR), init (the generator), and for each camera source (its
photos), test (HR and LR of test photos) and true_kernel.
"""

import argparse
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from simulated_cameras import CAMERAS

from realsr import api
from realsr.core.seeding import numpy_generator
from realsr.imaging import to_float, to_uint8
from realsr.imaging.kernel_shapes import save_kernel

sys.path.append(str(Path(__file__).parents[1] / "adaptation"))  # its scenes are read alike
from cameras import cut_detail, read_scene, write_images

# Scenes and the factors by which they are shrunk. The three sets share none.
SOURCE = (("casa-mila", 3), ("lake-sherburne", 3), ("rocket", 1), ("stereo_motorcycle", 1))
TARGET = (
    ("oakland-zoo-otters", 2),
    ("extreme-desert-hike", 2),
    ("singaporean-cityscape", 2),
    ("astronaut", 1),
)
TEST = (("canyon-wren", 2), ("perched-osprey", 2), ("chelsea", 1), ("coffee", 1))
TARGET_SIDE, TEST_SIDE = 1024, 224


def cut_tests(scene: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the crop with most detail of the left and of the right half of a scene."""
    middle = scene.shape[1] // 2
    for half in (scene[:, :middle], scene[:, middle:]):
        yield cut_detail(half, TEST_SIDE)


def take_photos(photos: Path, output: Path) -> None:
    """Write the scenes and the photos of all cameras."""

    def images() -> Iterator[tuple[Path, np.ndarray]]:
        for name, factor in TARGET:
            scene = read_scene(photos, name, factor)
            yield output / "target" / f"{name}.png", cut_detail(scene, TARGET_SIDE)
        tests = {
            f"{name}_{side}": crop
            for name, factor in TEST
            for side, crop in enumerate(cut_tests(read_scene(photos, name, factor)))
        }
        sources = {name: read_scene(photos, name, factor) for name, factor in SOURCE}
        for label, camera in CAMERAS.items():
            for name, crop in tests.items():
                yield output / label / "test/HR" / f"{name}.png", crop
            for folder, scenes in (("source", sources), ("test/LR", tests)):
                for name, scene in scenes.items():
                    rng = numpy_generator(0, label, folder, name)
                    yield (
                        output / label / folder / f"{name}.png",
                        to_uint8(camera(to_float(scene), rng)),
                    )

    write_images(images())
    for label, camera in CAMERAS.items():
        folder = output / label / "true_kernel"
        folder.mkdir(exist_ok=True)
        save_kernel(folder / "true_kernel_x2.mat", camera.kernel)


def train_start(output: Path, full: bool) -> None:
    """Train the generator from which all arms start: L1 on bicubic pairs."""
    config = Path(__file__).parent / "conf"
    keys = ["+camera=mild", "+arm=bicubic", "loss=pixel", "init=null", f"work_dir={output}/start"]
    if full:
        keys += ["generator=rrdb", "trainer.batch=16", "trainer.crop=128", "trainer.device=auto"]
        keys += [
            "optimiser.learning_rate=0.0002",
            "trainer.max_steps=50000",
            f"run={output}/init_full",
        ]
    else:
        keys += ["optimiser.learning_rate=0.001", "trainer.max_steps=4000", f"run={output}/init"]
    keys += [f"data.target={output}/target", f"data.validation={output}/mild/test"]
    api.train(api.load_config("train", [f"hydra.searchpath=[file://{config.resolve()}]", *keys]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--full", action="store_true", help="for the full size, on a GPU")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    take_photos(options.photos, options.output)
    train_start(options.output, options.full)


if __name__ == "__main__":
    main()
