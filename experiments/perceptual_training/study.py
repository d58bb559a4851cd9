"""Train a small generator by L1, then by the paper's perceptual loss with real features.

1. L1 alone from scratch, on bicubic pairs of the photos, shrunk by 3.
2. 0.01 L1 + 1 perceptual (VGG16) + 0.005 relativistic average GAN, from the result of 1.

Both, and bicubic interpolation, are evaluated on four crops of scikit-image's photos.

    python experiments/perceptual_training/study.py --photos DIR --vgg16 FILE --alexnet FILE
        --output DIR [--steps 2000,800]

--vgg16, --alexnet: torchvision's weights. A repeated call continues where the last one stopped.
"""

import argparse
import json
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


def draw_curves(runs: dict[str, Path], path: Path) -> None:
    """Draw the validation scores of the runs, one after another."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    for axes, score in zip(figure.subplots(1, 2), ("psnr", "lpips"), strict=True):
        start = 0
        for name, run in runs.items():
            lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
            steps = [start + line["step"] for line in lines]
            axes.plot(steps, [line[f"ema_{score}"] for line in lines], label=name)
            start = steps[-1]
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
    write_photos(options.photos, output)
    common = [
        *COMMON, f"data.target={output / 'target'}", f"work_dir={output / 'work'}",
        f"trainer.lpips_weights={options.alexnet}",
    ]  # fmt: skip
    runs = {"L1": output / "l1", "perceptual": output / "perceptual"}
    milestones = [first // 2, 3 * first // 4, 9 * first // 10]
    api.train(
        api.load_config("train", [
            *common, f"run={runs['L1']}", "loss=pixel", "optimiser.learning_rate=0.001",
            f"optimiser.milestones={milestones}", f"trainer.max_steps={first}", f"trainer.validate_every={first // 8}",
        ])
    )  # fmt: skip
    api.train(
        api.load_config("train", [
            *common, f"run={runs['perceptual']}", f"init={runs['L1']}", "loss=realsr",
            "loss.perceptual.network=vgg16", f"loss.perceptual.weights={options.vgg16}",
            "discriminator=patch_small", f"optimiser.milestones=[{second // 2}]",
            f"trainer.max_steps={second}", f"trainer.validate_every={second // 8}", "trainer.best_by=lpips",
        ])
    )  # fmt: skip
    models = ["bicubic", *(str(run / "generator_ema.safetensors") for run in runs.values())]
    api.evaluate(
        weights=models,
        data={"hr": str(output / "hr")},
        metrics=["psnr", "ssim", "lpips_alex", "lpips_vgg", "dists"],
        metric_files={"alexnet": str(options.alexnet), "vgg16": str(options.vgg16)},
        figures=["all"],
        output=str(output / "evaluation"),
        overwrite=True,
    )
    draw_curves(runs, output / "curves.png")


if __name__ == "__main__":
    main()
