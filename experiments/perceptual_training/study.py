"""Train a small generator by L1, then by perceptual losses with VGG16's real features.

Bicubic pairs of the photos, shrunk by 3. From one generator trained by L1 alone, four trainings
of the same steps, crops and learning rate:

- `l1`: L1 alone.
- `paper`: 0.01 L1 + 1 perceptual (VGG16, conv5_3) + 0.005 relativistic average GAN.
- `conv5_3`: 1 L1 + 0.1 perceptual (VGG16, conv5_3) + 0.005 relativistic average GAN.
- `layers`: 1 L1 + 0.1 perceptual (VGG16, five layers) + 0.005 relativistic average GAN.

All, and bicubic interpolation, are evaluated on four crops of scikit-image's photos.

    python experiments/perceptual_training/study.py --photos DIR --vgg16 FILE --alexnet FILE
        --output DIR [--steps 2000,800]

--vgg16, --alexnet: torchvision's weights. A repeated call continues where the last one stopped.
"""

import argparse
import json
import logging
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from skimage import data

from realsr import api
from realsr.imaging import list_images, read_uint8, shrink_uint8, write_uint8

FACTOR, SIDE = 3, 256
CROPS = {"astronaut": (0, 100), "coffee": (80, 150), "chelsea": (20, 100), "rocket": (100, 200)}
COMMON = [
    "+track=psnr", "generator=rrdb_small", "generator.blocks=3", "trainer.workers=0", "trainer.crop=64",
    "trainer.batch=4", "trainer.log_every=50", "trainer.checkpoint_every=200", "trainer.device=cpu",
]  # fmt: skip


def write_photos(photos: Path, output: Path) -> None:
    for path in list_images(photos):
        small = shrink_uint8(read_uint8(path), FACTOR)
        height, width = (side // 4 * 4 for side in small.shape[:2])
        file = output / "target" / f"{path.stem}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_uint8(file, np.ascontiguousarray(small[:height, :width]))
    (output / "hr").mkdir(exist_ok=True)
    for name, (top, left) in CROPS.items():
        crop = getattr(data, name)()[top : top + SIDE, left : left + SIDE]
        write_uint8(output / "hr" / f"{name}.png", np.ascontiguousarray(crop))


LAYERS = "{name: perceptual_layers, weight: 0.1, network: vgg16, layers: {2: 0.1, 7: 0.1, 14: 1, 21: 1, 28: 1}"


def list_losses(vgg16: Path) -> dict[str, list[str]]:
    """Return the overrides of each training's loss."""
    vgg = ["loss=realsr", f"loss.perceptual.weights={vgg16}", "loss.perceptual.network=vgg16"]
    by_l1 = ["loss.pixel.weight=1", "loss.perceptual.weight=0.1"]
    layers = f"loss.perceptual={LAYERS}, weights: {vgg16}}}"
    return {
        "l1": ["loss=pixel"],
        "paper": vgg,
        "conv5_3": [*vgg, *by_l1],
        "layers": ["loss=realsr", "loss.pixel.weight=1", layers],
    }


def train(run: Path, overrides: list[str], steps: int) -> None:
    arguments = [
        *overrides, f"run={run}", f"trainer.max_steps={steps}", f"trainer.validate_every={steps // 8}",
    ]  # fmt: skip
    api.train(api.load_config("train", [*COMMON, *arguments]))


def draw_curves(runs: dict[str, Path], path: Path) -> None:
    """Draw the validation scores of the runs."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    for axes, score in zip(figure.subplots(1, 2), ("psnr", "lpips"), strict=True):
        for name, run in runs.items():
            lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
            values = [line[f"ema_{score}"] for line in lines]
            axes.plot([line["step"] for line in lines], values, label=name)
        axes.set(xlabel="step", title=f"{score.upper()} of the averaged weights, held-out photo")
        axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name in ("photos", "vgg16", "alexnet", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--steps", default="2000,800")
    options = parser.parse_args()
    first, second = map(int, options.steps.split(","))
    output: Path = options.output
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    write_photos(options.photos, output)
    data_keys = [
        f"data.target={output / 'target'}", f"work_dir={output / 'work'}",
        f"trainer.lpips_weights={options.alexnet}",
    ]  # fmt: skip
    milestones = [first // 2, 3 * first // 4, 9 * first // 10]
    schedule = ["optimiser.learning_rate=0.001", f"optimiser.milestones={milestones}"]
    start = output / "start"
    train(start, [*data_keys, "loss=pixel", *schedule], first)
    runs = {name: output / name for name in list_losses(options.vgg16)}
    keys = [
        f"init={start}",
        "discriminator=patch_small",
        f"optimiser.milestones=[{3 * second // 4}]",
    ]
    for name, loss in list_losses(options.vgg16).items():
        train(runs[name], [*data_keys, *keys, *loss], second)
    models = [str(folder / "generator_ema.safetensors") for folder in (start, *runs.values())]
    api.evaluate(
        weights=["bicubic", *models],
        data={"hr": str(output / "hr")},
        protocol={"metrics": ["psnr", "ssim", "lpips_alex", "lpips_vgg", "dists"]},
        metric_files={"alexnet": str(options.alexnet), "vgg16": str(options.vgg16)},
        figures=["all"],
        output=str(output / "evaluation"),
        overwrite=True,
    )
    draw_curves(runs, output / "curves.png")


if __name__ == "__main__":
    main()
