"""A complete study on bundled photographs.

A simulated camera degrades clean photos. The stages estimate its kernel and noise from the degraded
photos only. Two small generators are trained for the same number of steps, one on bicubic pairs and
one on the estimated pool. Both are compared with bicubic interpolation on other photos of that
camera.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from realsr.api.reports import describe_run
from realsr.api.training_plan import time_steps
from realsr.api.training_run import train
from realsr.config.composition import load_metric_values, takes_keys
from realsr.config.pipeline import TrainConfig
from realsr.core.devices import choose_device
from realsr.core.files import write_bytes
from realsr.core.seeding import numpy_generator
from realsr.data.validation_images import ValidationImage, read_folders
from realsr.evaluation.metric import load_metrics
from realsr.evaluation.report import Scores, mean_scores
from realsr.evaluation.scoring import Model, as_readers, bicubic_model, evaluate_models
from realsr.imaging import crop_to_multiple, to_float, to_uint8, write_uint8
from realsr.imaging.kernel_shapes import kernel_psnr, load_kernel
from realsr.inference.model import load_model
from realsr.inference.tiling import as_function
from realsr.pools.contents import PoolConfig, list_kernels, list_noise
from realsr.provenance.manifest import open_stage
from realsr.reporting.figures import write_comparison
from realsr.reporting.pages import (
    Block,
    Card,
    Cards,
    PageTable,
    Paragraph,
    Section,
    compare,
    write_page,
)
from realsr.reporting.pool_figures import common_side, embed_kernel
from realsr.simulation import camera_model
from realsr.simulation.camera_model import Camera, anisotropic_kernel
from realsr.weights.sources import FETCH_COMMAND

logger = logging.getLogger("realsr")

# The true camera, which the stages do not know, and the role of each photograph.
SIGMAS, ANGLE = (2.0, 1.2), 35
CAMERA = Camera(
    kernel=anisotropic_kernel(13, SIGMAS, ANGLE, scale=2), scale=2, noise_levels=(2.0, 3.5)
)
SOURCE = ("camera", "coins", "grass", "gravel", "rocket")
# Colour photos only: a small network trained on gray photos loses colour.
TARGET = ("astronaut", "hubble_deep_field", "immunohistochemistry", "retina", "stereo_motorcycle")
TEST = ("chelsea", "coffee")
ZOOM = {"chelsea": (60, 110), "coffee": (110, 180)}  # (top, left) of the crops in the figure
ZOOM_SIDE = 128
PAGE_SIDE = 240  # of the crops on the page, from the same corner
ARMS = 2
OTHER_MINUTES = 1.0  # all but the steps of training, on two cores
# Metrics of the table: title and decimals.
COLUMNS = {
    "psnr": ("PSNR dB", 2),
    "ssim": ("SSIM", 4),
    "lpips_alex": ("LPIPS", 4),
    "dists": ("DISTS", 4),
}


@takes_keys("demo")
def demo(config: TrainConfig) -> dict[str, object]:
    """Run the study, and return the metrics.

    Written to work_dir: report.html, metrics.json, comparison.png.
    """
    folder, cpu = config.work_dir, torch.device("cpu")
    logger.info("%s", describe_plan(config))
    logger.info("This takes about %.0f min on this machine.\n", estimate_minutes(config))
    files = {"alexnet": config.trainer.lpips_weights}
    metrics = load_metrics(list(COLUMNS), load_metric_values(), files, cpu, optional=True)
    photograph(folder / "data", config.seed)
    arms = {"bicubic": bicubic_arm(config), "pool": replace(config, run=folder / "pool")}
    for name, arm in arms.items():
        logger.info("\nArm %s", name)
        train(arm)

    logger.info("\nEvaluation on held-out photos of the camera: %s", ", ".join(TEST))
    models: dict[str, Model] = {"bicubic_interpolation": bicubic_model(config.scale)}
    for name, arm in arms.items():
        models[f"trained_on_{name}"] = as_function(load_model(arm.run, cpu, "fp32"))
    test = folder / "data/test"
    images = list(read_folders(test / "HR", test / "LR", config.scale, damaged="refuse"))
    scores = evaluate_models(models, as_readers(images), metrics, crop=config.scale).scores
    kernels = {
        path.stem.split("_kernel")[0]: load_kernel(path)
        for path in list_kernels(config.pool_dir, config.scale)
    }
    summary = summarise(scores, kernels, noise_patches=len(list_noise(config.noise_pool_dir)))
    write_bytes(folder / "metrics.json", json.dumps(summary, indent=1).encode())
    views = {image.name: make_views(image, models) for image in images}
    draw(folder / "comparison.png", views, scores, kernels)
    sections = make_sections(summary, views, kernels) + describe_run(folder / "pool")
    subtitle = "A simulated camera with known blur and noise, and two models trained for it"
    write_page(folder / "report.html", "The demo of realsr", subtitle, sections)
    logger.info("%s", describe(summary, folder))
    return summary


def describe_plan(config: TrainConfig) -> str:
    """Return what the study does as text."""
    return "\n".join(
        [
            "The demo is a complete study on bundled photographs:",
            f"1. A simulated camera takes {len(SOURCE)} photos; its blur and noise are estimated.",
            f"2. Two small generators are trained for {config.trainer.max_steps} steps each: on "
            "bicubic pairs, and on pairs with the estimated blur and noise.",
            f"3. Both are compared on {len(TEST)} other photos of the camera.",
            f"Results: {config.work_dir}. After Ctrl-C the same command continues.",
        ]
    )


def estimate_minutes(config: TrainConfig) -> float:
    """Return the expected time of the study on this machine, from a few steps on random images."""
    device = choose_device(config.trainer.device, "trainer.device")
    seconds = min(islice(time_steps(config, device), 4))
    return OTHER_MINUTES + ARMS * config.trainer.max_steps * seconds / 60


def photograph(folder: Path, seed: int) -> None:
    """Write the study's data: photos of the camera, clean photos, and test photos with their HR."""
    recipe = {"sigmas": SIGMAS, "angle": ANGLE, "noise_levels": CAMERA.noise_levels}
    recipe |= {"source": SOURCE, "target": TARGET, "test": TEST}
    with open_stage(folder, "photographs", config=recipe, seed=seed, inputs={}) as record:
        for name in (*SOURCE, *TARGET, *TEST):
            if record.has_item(name):
                continue
            scene = crop_to_multiple(to_float(load_photograph(name)), CAMERA.scale)
            files = {}
            if name not in TARGET:
                photo = CAMERA(scene, numpy_generator(seed, "camera", name))
                files[folder / ("source" if name in SOURCE else "test/LR") / f"{name}.png"] = photo
            if name not in SOURCE:
                files[folder / ("target" if name in TARGET else "test/HR") / f"{name}.png"] = scene
            for path, image in files.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_uint8(path, to_uint8(image), sync=False)
            record.add(name, files)
        record.finish()


def load_photograph(name: str) -> np.ndarray:
    """Return a photograph of scikit-image, (H, W, 3) uint8.

    Raises UserError if the extra `demo` is not installed.
    """
    return camera_model.load_photograph(name, "the demo", "demo")


def bicubic_arm(config: TrainConfig) -> TrainConfig:
    """Return the config of the baseline arm: bicubic pairs without noise."""
    return replace(
        config,
        pool=PoolConfig(kernels="bicubic", noise=False, estimator={}),
        pairs_dir=config.work_dir / "stages/pairs_bicubic",
        cache_dir=config.work_dir / "stages/pairs_bicubic/cache",
        run=config.work_dir / "bicubic",
    )


def summarise(
    scores: Mapping[str, Mapping[str, Scores]],
    kernels: Mapping[str, np.ndarray],
    noise_patches: int,
) -> dict[str, object]:
    """Return the content of metrics.json; kernel_psnr is the mean over source photos, in dB."""
    means = {name: mean_scores(by_image) for name, by_image in scores.items()}
    psnrs = [kernel_psnr(CAMERA.kernel, kernel) for kernel in kernels.values()]
    return {
        **means,
        "kernel_psnr": float(np.mean(psnrs)),
        "noise_patches": noise_patches,
    }


def make_views(image: ValidationImage, models: Mapping[str, Model]) -> dict[str, Tensor]:
    """Return LR (enlarged by repeating pixels), SR of each model and HR, (3, H, W), by title."""
    rows = image.lr.repeat_interleave(CAMERA.scale, dim=1)
    views = {"LR": rows.repeat_interleave(CAMERA.scale, dim=2)}
    views |= {name.replace("_", " "): model(image.lr) for name, model in models.items()}
    return views | {"HR": image.hr}


def draw(
    path: Path,
    views: Mapping[str, Mapping[str, Tensor]],
    scores: Mapping[str, Mapping[str, Scores]],
    kernels: Mapping[str, np.ndarray],
) -> None:
    """Draw a crop of each test photo's views (see `make_views`), and the kernels below."""
    rows = []
    for photo, images in views.items():
        notes = {
            name.replace("_", " "): f"{by_image[photo]['psnr']:.2f} dB"
            for name, by_image in scores.items()
        }
        rows.append((photo, _crop(photo, images, ZOOM_SIDE), notes))
    panels = {"true kernel": CAMERA.kernel}
    for name, kernel in kernels.items():
        panels[f"estimated from {name}\n{kernel_psnr(CAMERA.kernel, kernel):.1f} dB"] = kernel
    write_comparison(path, rows, panels)


def _crop(photo: str, images: Mapping[str, Tensor], side: int) -> dict[str, Tensor]:
    top, left = ZOOM[photo]
    return {name: x[:, top : top + side, left : left + side] for name, x in images.items()}


def make_sections(
    metrics: Mapping[str, Any],
    views: Mapping[str, Mapping[str, Tensor]],
    kernels: Mapping[str, np.ndarray],
) -> list[Section]:
    """Return the sections of the page about the study; those about the run `pool` follow."""
    columns, rows = tabulate(metrics)
    head = ["", *(COLUMNS[name][0] for name in columns)]
    text = (
        "Two generators of the same size are trained for the same number of steps: on bicubic "
        "pairs, and on pairs with the blur and noise that were estimated from the camera's photos. "
        "The table compares them with bicubic interpolation on other photos of the camera. Lower "
        "LPIPS and DISTS are better."
    )
    blocks: list[Block] = [Paragraph(text), PageTable(f"Photos: {', '.join(TEST)}", head, rows)]
    for photo, images in views.items():
        crops = _crop(photo, images, PAGE_SIDE).items()
        arrays = {title.removesuffix(" interpolation"): to_uint8(x) for title, x in crops}
        sides = "bicubic", "trained on pool"
        blocks.append(compare(photo, arrays, sides, scale=CAMERA.scale))
    side = common_side([CAMERA.kernel, *kernels.values()])
    cards = [Card("true kernel", [embed_kernel("the camera", CAMERA.kernel, side)])]
    for name, kernel in kernels.items():
        note = f"{kernel_psnr(CAMERA.kernel, kernel):.1f} dB to the true kernel"
        cards.append(Card(name, [embed_kernel(name, kernel, side)], [note]))
    psnr = f"Mean PSNR to the true kernel: {metrics['kernel_psnr']:.1f} dB."
    return [
        Section("study", "Study", blocks),
        Section("truth", "True and estimated kernels", [Paragraph(psnr), Cards(cards)]),
    ]


def tabulate(metrics: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the metrics that all models have, and a row of text for each model."""
    models = {name: value for name, value in metrics.items() if isinstance(value, dict)}
    columns = [name for name in COLUMNS if name in next(iter(models.values()))]
    rows = [
        [name, *(f"{value[column]:.{COLUMNS[column][1]}f}" for column in columns)]
        for name, value in models.items()
    ]
    return columns, rows


def describe(metrics: Mapping[str, Any], folder: Path) -> str:
    """Return the final table of the demo and the paths of its results, as text."""
    columns, rows = tabulate(metrics)
    lines = [f"\nreport    {folder / 'report.html'}\n"]
    lines.append(f"{'':22}" + "".join(f"{COLUMNS[name][0]:>9}" for name in columns))
    lines += [f"{name:22}" + "".join(f"{cell:>9}" for cell in cells) for name, *cells in rows]
    if absent := [title for name, (title, _) in COLUMNS.items() if name not in columns]:
        lines.append(f"{' and '.join(absent)}: run {FETCH_COMMAND} what=[alexnet,vgg16] first")
    lines += [
        f"kernel PSNR {metrics['kernel_psnr']:.1f} dB against the true kernel; "
        f"noise patches: {metrics['noise_patches']}",
        f"figure    {folder / 'comparison.png'}",
        f"metrics   {folder / 'metrics.json'}",
        f"kernels   {folder / 'stages/pool/kernels'}",
        f"curves    tensorboard --logdir {folder}",
    ]
    return "\n".join(lines)
