"""Adaptation of a published generator to one camera, from nothing but that camera's photos.

The stages estimate blur kernels and noise from the photos. HR of the pairs is the photos themselves,
downscaled by 2 to 4, which removes most of their blur and noise. A published generator is trained on
these pairs for a few hundred steps, and its averaged weights are compared with the published ones
and with bicubic interpolation on regions of the photos that were held out.
"""

import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from realsr.api import degradation_stages as stages
from realsr.api.adaptation_report import (
    DETAIL,
    Adaptation,
    Evidence,
    describe_request,
    write_results,
)
from realsr.api.training_plan import measure_step
from realsr.api.training_run import check_validation, list_inputs, run_training
from realsr.config.composition import extract_part, load_config, takes_keys
from realsr.config.pipeline import (
    CollectNoiseConfig,
    EstimateKernelsConfig,
    MakePairsConfig,
    TrainConfig,
)
from realsr.config.schema import AdaptConfig
from realsr.core.devices import choose_device
from realsr.core.errors import UserError, WeightsError
from realsr.core.file_names import printable
from realsr.core.files import write_bytes
from realsr.data.degradations.degradation import build_degradation
from realsr.data.folders import join_names, list_photos
from realsr.data.pairs import Pair, hold_out_regions, image_size, list_pairs
from realsr.data.pool_files import list_patches
from realsr.data.validation_images import ValidationImage, load_validation
from realsr.imaging import read_uint8
from realsr.kernels.estimation import NoSoundKernelError
from realsr.kernels.estimator import SourcePhoto
from realsr.noise.survey import NoFlatTilesError
from realsr.pools.contents import list_noise
from realsr.provenance.manifest import open_stage
from realsr.provenance.sections import StageRecord
from realsr.training.generator_loss import GeneratorLoss
from realsr.training.loss_terms.classifier_weights import DownloadError
from realsr.training.validation import ValidationSet
from realsr.weights.generators import describe_generator
from realsr.weights.sources import find_weights
from realsr.weights.state_files import read_weights

logger = logging.getLogger("realsr")

STAGE = "adaptation"
MIN_STEPS = 20
TIMED_SHARE = 0.02  # of the time
TRAINING_SHARE = 0.9  # the rest is for checkpoints, loading and changes of the machine's load
ROWS = 3  # of the figure
HR_NOISE, MAX_CLEAN_UP = 2.0, 4  # levels; experiments/adaptation
NOISE_SAMPLE = 100  # patches


@takes_keys("adapt")
def adapt(config: AdaptConfig) -> Adaptation:
    """Adapt a generator to the photos of `source`; write the model, the report and the figure.

    Raises UserError for photos that cannot be read or are too small.
    """
    start = time.monotonic()
    result = Adaptation(config.output)
    photos = list_photos(config.source, "source", config.output)
    with _open_record(config, photos) as record:
        if record.has_item("model"):
            logger.info("%s: already adapted, nothing to do", config.output)
            return result
        plan_file = config.output / "adapt.json"  # an interrupted command has chosen a plan
        plan = json.loads(plan_file.read_bytes()) if record.has_item("plan") else {}
        training = choose_loss(config, compose_training(config), plan)
        cameras = check_photos(photos, training)
        device = choose_device(config.device)
        logger.info("%s", describe_request(config, len(photos), cameras, device))
        training, spreads = prepare_pairs(training)
        files = list_inputs(training)
        pairs, images = split_photos(training, files)
        if not plan:
            pixels = sum(image.lr[0].numel() for image in images) + ROWS * DETAIL**2
            plan = make_plan(config, training, device, pixels, start)
            write_bytes(plan_file, json.dumps(plan, indent=1).encode())
            record.add("plan", [plan_file])
            record.save()
        train_steps(training, pairs, files, plan)
        evidence = Evidence(
            photos=len(photos),
            spreads=spreads,
            noise_patches=len(list_patches(files)),
            clean_up=training.pairs.clean_up,
            steps=plan["steps"],
            steps_are_set=config.steps is not None,
            loss=training.loss.keys(),
        )
        details = {name: photos[name] for name in sorted(photos)[:ROWS]}
        text = write_results(result, config, training, images, details, evidence)
        record.add("model", [result.model, result.report, result.figure])
        record.finish()
    logger.info("\n%s\nmodel   %s\nreport  %s", text, result.model, result.report)
    logger.info("figure  %s", result.figure)
    logger.info("use it: realsr upscale PHOTO.jpg output=ADAPTED.png weights=%s", result.model)
    return result


def _open_record(
    config: AdaptConfig, photos: Mapping[str, Path]
) -> AbstractContextManager[StageRecord]:
    """Open the record of the adaptation, in the manifest of the output folder."""
    targets = list_photos(config.target, "target", config.output) if config.target else {}
    minutes = config.minutes if config.steps is None else None  # has no effect with `steps`
    weights = find_weights(config.weights)
    inputs = {f"source/{path.name}": path for path in photos.values()}
    inputs |= {f"target/{path.name}": path for path in targets.values()}
    return open_stage(
        config.output,
        STAGE,
        config={"minutes": minutes, "steps": config.steps, "weights": config.weights},
        seed=config.seed,
        inputs=inputs,
        files={"weights": weights.with_suffix(".bin") if weights.suffix == ".param" else weights},
        overwrite=config.overwrite,
    )


def train_steps(
    config: TrainConfig, pairs: Sequence[Pair], files: Sequence[Path], plan: Mapping[str, Any]
) -> None:
    """Train for the number of steps of the plan. files: of the pool."""
    steps = plan["steps"]
    duration = steps * plan["seconds_per_step"] / 60
    logger.info("training: %d steps, about %.1f minutes", steps, duration)
    config = replace(
        config,
        trainer=replace(config.trainer, max_steps=steps),
        optimiser=replace(config.optimiser, period=steps),
    )
    run_training(config, pairs, files, ValidationSet("held_out", []))


def split_photos(
    config: TrainConfig, files: Sequence[Path]
) -> tuple[list[Pair], list[ValidationImage]]:
    """Return the training pairs, and the held-out regions, degraded as in training.

    files: of the pool, for the online degradation.
    """
    trainer, most = config.trainer, config.trainer.validation_images
    pairs = list_pairs(config.pairs_dir, config.scale)
    pairs, regions = hold_out_regions(
        pairs, config.work_dir, config.scale, trainer.crop, most, config.seed
    )
    degradation = build_degradation(config.online_degradation, config.scale, files)
    largest = trainer.validation_crop
    images = load_validation(regions, config.scale, degradation, config.seed, largest, most)
    check_validation(images, config.scale)
    if not images:
        logger.warning(
            "the photos are too small to hold out a region, so the model will not be evaluated: "
            "for that, use photos of at least %d pixels on the longer side",
            2 * trainer.crop * config.pairs.clean_up,
        )
    return pairs, images


def choose_loss(config: AdaptConfig, training: TrainConfig, plan: Mapping[str, Any]) -> TrainConfig:
    """Return the training config with the loss of the plan.

    Without a plan, L1 alone if AlexNet's weights for LPIPS can neither be found nor downloaded.
    Raises WeightsError if `lpips_weights` cannot be read, or if an interrupted training used LPIPS.
    """
    file = config.lpips_weights
    if file is not None and not file.is_file():
        raise WeightsError(
            f"lpips_weights={file}: there is no such file; expected AlexNet's weights"
        )
    pixel = replace(training, loss={"pixel": training.loss["pixel"]})
    if plan and plan["loss"] == list(pixel.loss):
        return pixel
    try:
        GeneratorLoss(training.loss)
    except DownloadError as error:
        text = (
            f"{error.problem}. Choose one of: (1) {error.remedy}; (2) set lpips_weights=FILE to your "
            "own AlexNet weights."
        )
        if plan:
            raise WeightsError(text) from error
        logger.warning("%s\nThe adaptation continues with L1 alone: results are softer.", text)
        return pixel
    return training


def make_plan(
    config: AdaptConfig, training: TrainConfig, device: torch.device, pixels: int, start: float
) -> dict[str, Any]:
    """Return the loss, the seconds of a training step and the number of steps.

    The number is `steps`, or what fits into the time since `start` that is left, according to a few
    measured steps. pixels: number of LR pixels that the evaluation upscales by two generators.
    """
    trainer = training.trainer
    seconds = measure_step(training, device, TIMED_SHARE * config.minutes * 60)
    steps = config.steps
    if steps is None:
        # A step computes about three times as much for a pixel of LR as upscaling does.
        step_pixels = trainer.batch * (trainer.crop // training.scale) ** 2
        evaluation = 2 * pixels * seconds / (3 * step_pixels)
        rest = config.minutes * 60 - (time.monotonic() - start) - evaluation
        steps = min(max(int(TRAINING_SHARE * rest / seconds), MIN_STEPS), trainer.max_steps)
    return {
        "minutes": config.minutes,
        "seconds_per_step": seconds,
        "steps": steps,
        "loss": list(training.loss),
        "device": str(device),
    }


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
    loss = training.loss
    if config.lpips_weights is not None:
        loss = loss | {"lpips": loss["lpips"] | {"weights": config.lpips_weights}}
    return replace(training, generator=generator, loss=loss)


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
    return cameras


def read_camera(path: Path) -> str | None:
    """Return the camera in a photo's EXIF, None without it."""
    try:
        return printable(SourcePhoto(path.stem, path, damaged="refuse").tags.camera or "") or None
    except (OSError, ValueError, SyntaxError):
        return None  # a damaged block; the stages report damaged photos


def prepare_pairs(config: TrainConfig) -> tuple[TrainConfig, list[float]]:
    """Run the stages before training.

    Returns the config, with noise or kernels disabled if the photos yield none, and the longer
    standard deviation of each sound kernel at scale 2, in pixels.
    """
    spreads = []
    try:
        stages.collect_noise(extract_part(config, CollectNoiseConfig))
    except NoFlatTilesError as error:
        logger.warning("%s\nThe adaptation continues without noise.", error.reason)
        config = replace(config, pool=replace(config.pool, noise=False))
    try:
        kernels = stages.estimate_kernels(
            extract_part(config, EstimateKernelsConfig, shard=None, shards=None)
        )
        sound = [item for item in kernels.items.values() if not item.get("rejected")]
        spreads = [item["health"]["spread_long"] for item in sound]
    except NoSoundKernelError as error:
        logger.warning("%s\nThe adaptation continues with bicubic downscaling.", error)
        config = replace(config, pool=replace(config.pool, kernels="bicubic"))
    clean_up = choose_clean_up(
        list_noise(config.noise_pool_dir) if config.pool.noise else [], config
    )
    config = replace(config, pairs=replace(config.pairs, clean_up=clean_up))
    stages.make_pairs(extract_part(config, MakePairsConfig, compare=False))
    return config, spreads


def choose_clean_up(noise: Sequence[Path], config: TrainConfig) -> int:
    """Return the factor by which the photos are downscaled to HR, at least that of the config.

    It is the smallest factor up to 4 after which the median noise patch would have a standard
    deviation of at most 2 levels, if noise is independent between pixels. The shortest photo must
    still hold a crop.
    """
    if not noise:
        return config.pairs.clean_up
    step = -(-len(noise) // NOISE_SAMPLE)
    levels = [read_uint8(path).std(axis=(0, 1)).mean() for path in noise[::step]]
    level = float(np.median(levels))
    photos = list_photos(config.data.source, "source", config.work_dir).values()
    shortest = min(min(image_size(path)) for path in photos)
    largest = min(MAX_CLEAN_UP, shortest // config.trainer.crop)
    factor = min(max(math.ceil(level / HR_NOISE), config.pairs.clean_up), largest)
    if factor > config.pairs.clean_up:
        logger.info(
            "noise of %.1f levels: HR is the photos downscaled by %d instead of %d",
            level, factor, config.pairs.clean_up,
        )  # fmt: skip
    return factor
