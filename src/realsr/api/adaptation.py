"""Adaptation of a published generator to one camera, from nothing but that camera's photos.

The stages estimate blur kernels and noise from the photos. HR of the pairs is the photos themselves,
downscaled by 2, which removes most of their blur and noise. A published generator is trained on
these pairs by L1 for a few hundred steps, and its averaged weights are compared with the published
ones and with bicubic interpolation on pairs that were held out.
"""

import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from realsr.api import degradation_stages as stages
from realsr.api.training_run import (
    check_validation,
    split_pairs,
    stage_config,
    training_config,
)
from realsr.config.composition import load_config, load_metric_values, takes_keys, to_yaml
from realsr.config.schema import (
    AdaptConfig,
    CollectNoiseConfig,
    EstimateKernelsConfig,
    MakePairsConfig,
    TrainConfig,
)
from realsr.core.devices import choose_device
from realsr.core.errors import UserError
from realsr.core.file_names import printable
from realsr.core.files import write_bytes
from realsr.data.folders import join_names, list_photos
from realsr.data.pairs import image_size
from realsr.data.validation_images import ValidationImage
from realsr.evaluation.metric import Metric, load_metrics
from realsr.evaluation.report import Scores, mean_scores
from realsr.evaluation.scoring import Model, as_readers, bicubic_model, evaluate_models
from realsr.evaluation.tables import Table
from realsr.imaging import crop_to_multiple, read_uint8, resize, to_float
from realsr.imaging.kernel_shapes import load_kernel
from realsr.inference.model import load_model
from realsr.inference.tiling import as_function
from realsr.kernels.estimation import NoSoundKernelError
from realsr.noise.survey import NoFlatTilesError
from realsr.pools.contents import list_kernels, list_noise
from realsr.provenance.manifest import open_stage
from realsr.provenance.sections import StageRecord
from realsr.reporting.figures import choose_window, write_comparison
from realsr.training.generator_loss import GeneratorLoss
from realsr.training.run import train_run
from realsr.training.state import make_state
from realsr.training.step import TrainStep
from realsr.training.validation import ValidationSet
from realsr.weights import convert_weights
from realsr.weights.generators import describe_generator
from realsr.weights.origin import find_origin
from realsr.weights.published_files import FETCH_COMMAND
from realsr.weights.sources import find_weights
from realsr.weights.state_files import read_weights

logger = logging.getLogger("realsr")

STAGE = "adaptation"
LPIPS = "lpips_alex"
METRICS = ("psnr", "ssim", LPIPS)
MIN_STEPS = 20
TIMED_STEPS, TIMED_SHARE = 3, 0.02  # at least this many steps, and this share of the time
TRAINING_SHARE = 0.9  # the rest is for checkpoints, loading and changes of the machine's load
MAKE, MODEL = 271, 272  # EXIF tags
SHARP = 1.0  # standard deviation of a kernel at scale 2, in pixels, close to bicubic's
FEW_PHOTOS, FEW_STEPS = 3, 100
ROWS, DETAIL, LARGEST = 3, 64, 1024  # of the figure: photos, side of a detail, part of a photo


@dataclass(frozen=True)
class Adaptation:
    """The folder of an adapted model."""

    folder: Path

    @property
    def model(self) -> Path:
        """The adapted generator, for `weights=` of other commands."""
        return self.folder / "model.safetensors"

    @property
    def report(self) -> Path:
        """The scores of the adapted model, and whether it is better than the published one."""
        return self.folder / "report.md"

    @property
    def figure(self) -> Path:
        """Details of the photos, upscaled by bicubic, the published and the adapted model."""
        return self.folder / "before_after.png"


@dataclass(frozen=True)
class Evidence:
    """What the photos yielded. spreads: of each sound kernel, its longer standard deviation."""

    photos: int
    spreads: Sequence[float]
    noise_patches: int
    steps: int


@takes_keys("adapt")
def adapt(config: AdaptConfig) -> Adaptation:
    """Adapt a generator to the photos of `source`; write the model, the report and the figure.

    Raises UserError for photos that cannot be read or are too small.
    """
    start = time.monotonic()
    result = Adaptation(config.output)
    photos = list_photos(config.source, "source", config.output)
    targets = list_photos(config.target, "target", config.output) if config.target else {}
    facts = {"minutes": config.minutes, "weights": config.weights}
    weights = find_weights(config.weights)
    inputs = {f"source/{path.name}": path for path in photos.values()}
    inputs |= {f"target/{path.name}": path for path in targets.values()}
    with open_stage(
        config.output,
        STAGE,
        config=facts,
        seed=config.seed,
        inputs=inputs,
        files={"weights": weights.with_suffix(".bin") if weights.suffix == ".param" else weights},
        overwrite=config.overwrite,
    ) as record:
        if record.has_item("model"):
            logger.info("%s: already adapted, nothing to do", config.output)
            return result
        training = compose_training(config)
        cameras = check_photos(photos, training)
        device = choose_device(config.device)
        logger.info("%s", describe_plan(config, len(photos), cameras, device))
        training, spreads = prepare_pairs(training)
        noise = list_noise(training.noise_pool_dir) if training.pool.noise else []
        pairs, validation = split_pairs(training, noise)
        check_validation(validation.images, training.scale)

        steps, seconds = plan_steps(config, training, device, validation.images, start, record)
        logger.info("training: %d steps, about %.1f minutes", steps, steps * seconds / 60)
        training = replace(
            training,
            trainer=replace(training.trainer, max_steps=steps),
            optimiser=replace(training.optimiser, period=steps),
        )
        train_run(
            training.run,
            pairs,
            noise,
            training.online_degradation,
            ValidationSet(validation.name, []),
            training_config(training),
            to_yaml(training),
            training.cache_dir,
            training.overwrite,
        )
        evidence = Evidence(len(photos), spreads, len(noise), steps)
        licence = find_origin(config.weights, read_weights(weights)).licence
        average = training.run / "generator_ema.safetensors"
        convert_weights(average, result.model, overwrite=True, licence=licence)
        models: dict[str, Model] = {
            "bicubic": bicubic_model(training.scale),
            "published": as_function(load_model(config.weights, device, "fp32")),
            "adapted": as_function(load_model(result.model, device, "fp32")),
        }
        text = write_report(result.report, config, models, validation.images, training, evidence)
        held_out = {image.name for image in validation.images}
        names = sorted(photos, key=lambda name: (name not in held_out, name))[:ROWS]
        draw_photos(result.figure, {name: photos[name] for name in names}, models, training)
        record.add("model", [result.model, result.report, result.figure])
        record.finish()
    logger.info("\n%s\nmodel   %s\nreport  %s", text, result.model, result.report)
    logger.info("figure  %s", result.figure)
    logger.info(
        "use it: python -m realsr.upscale PHOTO.jpg output=BIG.png weights=%s", result.model
    )
    return result


def plan_steps(
    config: AdaptConfig,
    training: TrainConfig,
    device: torch.device,
    images: Sequence[ValidationImage],
    start: float,
    record: StageRecord,
) -> tuple[int, float]:
    """Return the number of training steps and the seconds of one, from `adapt.json` if recorded.

    Otherwise a few steps are measured, and the number for the time since `start` that is left is
    written to that file, so that a repeated command takes the same.
    """
    plan = config.output / "adapt.json"
    if not record.has_item("plan"):
        seconds = measure_step(training, device, TIMED_SHARE * config.minutes * 60)
        rest = config.minutes * 60 - (time.monotonic() - start)
        rest -= evaluation_time(seconds, training, images)
        steps = max(int(TRAINING_SHARE * rest / seconds), MIN_STEPS)
        steps = min(steps, training.trainer.max_steps)
        values = {"minutes": config.minutes, "seconds_per_step": seconds, "steps": steps}
        write_bytes(plan, json.dumps(values | {"device": str(device)}, indent=1).encode())
        record.add("plan", [plan])
        record.save()
    values = json.loads(plan.read_text(encoding="utf-8"))
    return values["steps"], values["seconds_per_step"]


def compose_training(config: AdaptConfig) -> TrainConfig:
    """Return the recipe `adapt` for the photos, with the generator and scale of the weights."""
    _, generator, scale = describe_generator(read_weights(find_weights(config.weights)))
    training: TrainConfig = load_config(
        "train",
        ["+experiment=adapt"],
        data={"source": config.source, "target": config.target},
        pairs={"hr": ["source", "target"] if config.target else ["source"]},
        trainer={"device": config.device},
        work_dir=config.output / "work",
        init=config.weights,
        scale=scale,
        seed=config.seed,
        overwrite=config.overwrite,
    )
    return replace(training, generator=generator)


def check_photos(photos: Mapping[str, Path], config: TrainConfig) -> set[str]:
    """Return the cameras in the photos' EXIF.

    Raises UserError for a photo that is no image, or that is smaller than a crop once it is HR.
    """
    side = config.trainer.crop * config.pairs.clean_up
    small = [path.name for path in photos.values() if min(image_size(path)) < side]
    if small:
        raise UserError(
            f"{config.data.source}: {len(small)} of {len(photos)} photos have a side of less than "
            f"{side} pixels: {join_names(small, 5)}: remove them"
        )
    cameras = {camera for path in photos.values() if (camera := read_camera(path))}
    if len(cameras) > 1:
        logger.warning(
            "%s: photos of %d cameras (%s): the model will suit their mixture; for one camera, use "
            "a folder of its photos",
            config.data.source,
            len(cameras),
            join_names(cameras, 5),
        )
    if len(photos) == 1:
        logger.warning("a single photo: no pair is held out, so the model is not evaluated")
    return cameras


def read_camera(path: Path) -> str | None:
    """Return make and model of the camera in a photo's EXIF, None without them."""
    try:
        with Image.open(path) as image:
            exif = image.getexif()
    except (OSError, ValueError, SyntaxError):
        return None  # a damaged block; the stages report damaged photos
    words = [str(exif[tag]).strip("\0 ") for tag in (MAKE, MODEL) if tag in exif]
    return printable(" ".join(words)) or None


def describe_plan(config: AdaptConfig, photos: int, cameras: set[str], device: torch.device) -> str:
    """Return what the command will do, and how long it takes."""
    camera = f" of {next(iter(cameras))}" if len(cameras) == 1 else ""
    return (
        f"{photos} photos{camera}: estimate kernels and noise, make pairs, train {config.weights} "
        f"on {device}, evaluate; about {config.minutes:g} minutes in all. Results: {config.output}"
    )


def prepare_pairs(config: TrainConfig) -> tuple[TrainConfig, list[float]]:
    """Run the stages before training.

    Returns the config, with noise or kernels disabled if the photos yield none, and the longer
    standard deviation of each sound kernel at scale 2, in pixels.
    """
    spreads = []
    try:
        stages.collect_noise(stage_config(config, CollectNoiseConfig))
    except NoFlatTilesError as error:
        logger.warning("%s\nThe adaptation continues without noise.", error)
        config = replace(config, pool=replace(config.pool, noise=False))
    try:
        kernels = stages.estimate_kernels(
            stage_config(config, EstimateKernelsConfig, shard=None, shards=None)
        )
        sound = [item for item in kernels.items.values() if not item.get("rejected")]
        spreads = [item["health"]["spread_long"] for item in sound]
    except NoSoundKernelError as error:
        logger.warning("%s\nThe adaptation continues with bicubic downscaling.", error)
        config = replace(config, pool=replace(config.pool, kernels="bicubic"))
    stages.make_pairs(stage_config(config, MakePairsConfig, compare=False))
    return config, spreads


def measure_step(config: TrainConfig, device: torch.device, duration: float) -> float:
    """Return the mean seconds of a training step, by a copy on random images for `duration`."""
    trainer = config.trainer
    state = make_state(training_config(config), device)
    sides = [trainer.crop // config.scale, trainer.crop]
    lr, hr = (torch.rand(trainer.batch, 3, side, side, device=device) for side in sides)
    step = TrainStep(state, GeneratorLoss(config.loss).to(device), trainer, lr.shape)
    steps, start = -1, 0.0
    while steps < TIMED_STEPS or time.monotonic() - start < duration:
        float(step(lr, hr, rate=0.0).values.sum())  # waits for a GPU
        steps += 1
        if steps == 0:  # the first allocates memory
            start = time.monotonic()
    return max((time.monotonic() - start) / steps, 1e-4)


def evaluation_time(
    seconds_per_step: float, config: TrainConfig, images: Sequence[ValidationImage]
) -> float:
    """Return the seconds that two generators need for the images.

    A step computes about three times as much for a pixel of LR as upscaling does.
    """
    trainer = config.trainer
    step_pixels = trainer.batch * (trainer.crop // config.scale) ** 2
    pixels = sum(math.prod(image.lr.shape[1:]) for image in images) + ROWS * DETAIL**2
    return 2 * pixels * seconds_per_step / (3 * step_pixels)


def write_report(
    path: Path,
    config: AdaptConfig,
    models: Mapping[str, Model],
    images: Sequence[ValidationImage],
    training: TrainConfig,
    evidence: Evidence,
) -> str:
    """Score the models on the held-out pairs, write the report, and return table and verdict."""
    means: dict[str, Scores] = {}
    tables, notes = [], []
    if images:
        cpu, files = torch.device("cpu"), {"alexnet": config.lpips_weights}
        metrics = load_metrics(list(METRICS), load_metric_values(), files, cpu, optional=True)
        results = evaluate_models(models, as_readers(images), metrics, training.scale)
        means = {name: mean_scores(by_image) for name, by_image in results.scores.items()}
        if LPIPS not in metrics:
            notes.append(f"No LPIPS: run {FETCH_COMMAND} what=[alexnet] or set lpips_weights=FILE.")
        names = ", ".join(image.name for image in images)
        tables.append(make_table(f"Means over the held-out pairs: {names}", means, metrics))
    verdict = judge(means, evidence)
    blur = "no sound kernel: bicubic downscaling"
    if evidence.spreads:
        blur = f"{len(evidence.spreads)} kernels, standard deviation {min(evidence.spreads):.2f}"
        blur += f" to {max(evidence.spreads):.2f} pixels at scale 2 (longer axis)"
    lines = [
        f"# {printable(config.weights)}, adapted to {printable(config.source.name)}",
        verdict,
        *(table.as_markdown() for table in tables),
        *notes,
        f"- photos: {evidence.photos}\n- blur: {blur}\n- noise patches: {evidence.noise_patches}\n"
        f"- training: {evidence.steps} steps, L1, on {choose_device(config.device)}\n- seed: {config.seed}",
        "Kernels and noise are estimated from all photos, also from those of the held-out pairs. HR "
        "of a pair is the photo downscaled by 2; LR is HR degraded like the camera's photos.",
        "![Details of the photos](before_after.png)",
    ]
    write_bytes(path, ("\n\n".join(lines) + "\n").encode())
    return "\n".join([*(table.as_text() for table in tables), *notes, verdict])


def make_table(title: str, means: Mapping[str, Scores], metrics: Mapping[str, Metric]) -> Table:
    """Return the mean scores of each model as a table."""
    rows = [
        [model, *(f"{value:.{metrics[name].digits}f}" for name, value in scores.items())]
        for model, scores in means.items()
    ]
    return Table(title, ["", *next(iter(means.values()))], rows)


def judge(means: Mapping[str, Scores], evidence: Evidence) -> str:
    """Return a sentence: whether the adapted model is better than the published one; if not, why.

    It is better if its PSNR is higher and its LPIPS is lower; without LPIPS, its SSIM higher.
    """
    if not means:
        return (
            "The adapted model was not evaluated, since no pair is held out of a single photo: "
            "use more photos."
        )
    published, adapted = means["published"], means["adapted"]
    psnr = adapted["psnr"] - published["psnr"]
    other, sign = (LPIPS, -1) if LPIPS in adapted else ("ssim", 1)
    change = adapted[other] - published[other]
    is_better = psnr > 0 and sign * change > 0
    title = {LPIPS: "LPIPS", "ssim": "SSIM"}[other]
    percent = 100 * change / published[other] if published[other] else 0.0
    numbers = f"PSNR {psnr:+.2f} dB, {title} {percent:+.1f} %"
    if is_better:
        return f"The adapted model is better than the published one: {numbers}."
    reasons = []
    if evidence.spreads and float(np.mean(evidence.spreads)) < SHARP:
        reasons.append("the photos are already sharp (kernels as narrow as bicubic's)")
    if not evidence.spreads:
        reasons.append("no kernel is sound")
    if not evidence.noise_patches:
        reasons.append("the photos have no measurable noise")
    if evidence.photos < FEW_PHOTOS:
        reasons.append(f"only {evidence.photos} photos")
    if evidence.steps < FEW_STEPS:
        reasons.append(f"only {evidence.steps} steps (set more minutes)")
    cause = f" Likely reasons: {'; '.join(reasons)}." if reasons else ""
    return f"The adapted model is not better than the published one: {numbers}.{cause}"


def draw_photos(
    path: Path, photos: Mapping[str, Path], models: Mapping[str, Model], config: TrainConfig
) -> None:
    """Draw the most detailed square of each photo, upscaled by each model; kernels below."""
    rows: list[tuple[str, dict[str, torch.Tensor], dict[str, str]]] = []
    for name, file in photos.items():
        photo = crop_to_multiple(to_float(read_uint8(file)), 2)
        top, left = (max(0, side - LARGEST) // 2 for side in photo.shape[1:])
        photo = photo[:, top : top + LARGEST, left : left + LARGEST]
        photo = crop_to_multiple(photo, 2)
        smooth = resize(resize(photo, factor=0.5), factor=2.0)
        detail = choose_window([photo, smooth], DETAIL).cut(photo).contiguous()
        crops = {model: run(detail).clamp(0, 1) for model, run in models.items()}
        rows.append((name, {"photo": detail, **crops}, {}))
    kernels = {}
    if config.pool.kernels == "estimated":
        files = list_kernels(config.pool_dir, config.scale)[: len(models) + 1]
        kernels = {
            f"kernel of\n{file.stem.split('_kernel')[0]}": load_kernel(file) for file in files
        }
    write_comparison(path, rows, kernels)
