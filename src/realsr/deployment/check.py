"""Check exported files against the float32 network, and score them."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from torch import Tensor, nn

from realsr.core.errors import UserError
from realsr.data.validation_images import EvaluationImage, prepare_pair
from realsr.deployment.export_folder import File
from realsr.deployment.measure import ArrayFunction, open_file
from realsr.deployment.onnx_graph import Generator
from realsr.deployment.table import METRICS, REFERENCE, MeanScores
from realsr.evaluation.metric import Metric
from realsr.evaluation.metrics.psnr import PSNR
from realsr.evaluation.metrics.ssim import SSIM
from realsr.evaluation.protocol import Protocol, resolve
from realsr.evaluation.report import mean_scores
from realsr.evaluation.scoring import ImageReaders, Model, evaluate_models, match_images
from realsr.inference.model import SRModel, only_finite
from realsr.inference.tiling import as_function
from realsr.simulation.camera_model import load_photograph

logger = logging.getLogger("realsr")

EVALUATION_PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")
"""scikit-image photographs for scoring, disjoint from `quantise.CALIBRATION_PHOTOS`."""
ADVICE = ": try more or other int8.photos, int8.methods=[minmax], or more layers in int8.keep"
SIDE = 64  # side of the check photos, in LR pixels
SIZES = ((1, 7), (33, 20))  # random inputs; sizes that the graph was not traced with
MIN_PSNR = {"fp32": (80.0, 95.0), "fp16": (35.0, 45.0), "int8": (0.0, 20.0)}
"""Minimum PSNR in dB to the network's own result, on random inputs and on photos.

A generator turns noise into texture that changes with any rounding. On noise, DF2K in INT8 reaches
only 10 dB to float32, but 40 dB on photos. On random inputs INT8 therefore only has to be finite.
"""
WARNING_PSNR = 30.0
"""PSNR in dB of INT8 to float32 on the evaluation images, below which a warning is logged."""

EvaluationSets = Mapping[str, tuple[ImageReaders, int]]
"""By protocol: the evaluation images and the number of border pixels to crop."""


@dataclass(frozen=True)
class Scores:
    """Scores of the float32 network and of each file.

    means: model -> protocol -> metric -> mean over images.
    similarity: file -> mean PSNR in dB to float32 on the images of the first protocol.
    failures: images that could not be scored, with the reason.
    """

    means: Mapping[str, MeanScores]
    similarity: Mapping[str, float]
    failures: list[str]


def check_file(file: File, generator: Generator, photos: Sequence[Tensor]) -> None:
    """Raise UserError if a file's results differ from the generator's; see `check_result`.

    Two of the photos are used. The results of `score_path`, if the file has it, must be finite too:
    it may overflow where the file itself does not.
    """
    name, threads = file.path.name, torch.get_num_threads()
    samples = [photo[:, :, :SIDE, :SIDE].contiguous().numpy() for photo in photos[:2]]
    run = open_file(file.path, threads)
    lowest = check_result(name, run, generator.network, samples, file.precision)
    if file.score_path is not None:
        run = open_file(file.score_path, threads)
        if not all(np.isfinite(run(lr)).all() for lr in samples):
            raise UserError(
                f"{name}: results rounded to fp16 are not finite; the file is not written"
            )
    logger.info("%s: written and checked, lowest PSNR to the generator %.1f dB", name, lowest)


def check_result(
    name: str, run: ArrayFunction, network: nn.Module, photos: Sequence[np.ndarray], precision: str
) -> float:
    """Return the lowest PSNR in dB of a file's results to the network's on photos (1, 3, h, w).

    Raises UserError if results differ in size, are not finite, or are below `MIN_PSNR` on photos or
    on random inputs.
    """
    random = [
        np.random.default_rng(seed).random((1, 3, *size), np.float32)
        for seed, size in enumerate(SIZES)
    ]
    lowest = math.inf
    for inputs, minimum, kind in zip(
        (random, photos), MIN_PSNR[precision], ("random inputs", "photos"), strict=True
    ):
        lowest = float(np.min([_compare(name, run, network, lr) for lr in inputs]))
        if not lowest >= minimum:  # also true for nan
            raise UserError(
                f"{name}: results are not finite or differ from the generator's (PSNR on {kind} "
                f"{lowest:.1f} dB, expected {minimum:g} or more); the file is not written"
            )
    return lowest


def check_similarity(name: str, precision: str, value: float) -> str:
    """Return a warning about a low PSNR to float32 on the evaluation images, or an empty string.

    Raises UserError if the PSNR is below `MIN_PSNR`.
    """
    minimum, advice = MIN_PSNR[precision][1], ADVICE if precision == "int8" else ""
    if not value >= minimum:  # also true for nan
        raise UserError(
            f"{name}: PSNR to float32 on the evaluation images is {value:.1f} dB, expected "
            f"{minimum:g} or more; the file is not written{advice}"
        )
    if precision != "int8" or value >= WARNING_PSNR:
        return ""
    usual = f"usual values are 35 to 42, losses are visible below {WARNING_PSNR:g}"
    return f"{name}: PSNR to float32 is {value:.1f} dB; {usual}{advice}"


def similarity(image: np.ndarray, reference: np.ndarray) -> float:
    """Return the PSNR in dB of two images clamped to 0..1; nan if one of them is not finite."""
    if not (np.isfinite(image).all() and np.isfinite(reference).all()):
        return math.nan
    difference = np.clip(image, 0, 1).astype(np.float64) - np.clip(reference, 0, 1)
    error = float(np.square(difference).mean())
    return -10 * math.log10(error) if error > 0 else math.inf


def load_default_photo(name: str) -> np.ndarray:
    """Return a photograph of scikit-image (H, W, 3) uint8. Raises UserError if it is missing."""
    return load_photograph(name, "export without folders of photos", "onnx")


def load_evaluation_sets(
    hr: Path | None, protocols: Mapping[str, Protocol], scale: int, damaged: str
) -> EvaluationSets:
    """Return a folder's images as `match_images` does; without a folder, four of scikit-image.

    Protocols whose HR side is not a multiple of the scale are omitted, as the log says.
    damaged: see `realsr.imaging.read_uint8`.
    """

    def read(name: str, protocol: Protocol) -> EvaluationImage:
        photo, side, area = load_default_photo(name), protocol.hr_side, protocol.lr == "area"
        return EvaluationImage(name, *prepare_pair(photo, scale, None, side, area))

    sets = {}
    for key, values in protocols.items():
        if values.hr_side is not None and values.hr_side % scale:
            logger.info(
                "protocol %s omitted: HR of %d pixels at scale %d", key, values.hr_side, scale
            )
            continue
        protocol = replace(resolve(values, scale), metrics=list(METRICS))
        images: ImageReaders = {name: partial(read, name, protocol) for name in EVALUATION_PHOTOS}
        if hr is not None:
            images = match_images(hr, None, protocol, scale, damaged)
        sets[key] = images, protocol.crop or 0
    return sets


def score_files(generator: Generator, files: Sequence[File], sets: EvaluationSets) -> Scores:
    """Score float32 and each file by all protocols. Raises UserError if no image can be scored."""

    def as_model(run: Callable[[Tensor], Tensor], name: str) -> Model:
        """Return a function of one image that computes in tiles if memory is short."""
        run, size = only_finite(run, name), generator.bytes_per_pixel
        return as_function(SRModel(generator.scale, torch.device("cpu"), run, size))

    models = {REFERENCE: as_model(torch.no_grad()(generator.network), generator.source)}
    for file in files:
        run = open_file(file.score_path or file.path, torch.get_num_threads())
        models[file.path.stem] = as_model(partial(_on_tensor, run), file.path.name)
    # By conf/metric/psnr.yaml and ssim.yaml, whose values the limits of the check are stated for.
    metrics: dict[str, Metric] = {"psnr": PSNR(luma=False), "ssim": SSIM("gaussian", luma=False)}
    means: dict[str, dict[str, Mapping[str, float]]] = {name: {} for name in models}
    similarities: dict[str, list[float]] = {file.path.stem: [] for file in files}
    failures = dict[str, str]()
    exact = Tensor()

    def compare(image: EvaluationImage, model: str, sr: Tensor, _: object) -> None:
        nonlocal exact
        if model == REFERENCE:  # called first for each image
            exact = sr
        else:
            similarities[model].append(similarity(sr.numpy(), exact.numpy()))

    for protocol, (images, border) in sets.items():
        logger.info("scored by %s", protocol)
        results = evaluate_models(
            models, images, metrics, border, compare if protocol == next(iter(sets)) else None
        )
        failures |= results.failures
        for model, rows in results.scores.items():
            means[model][protocol] = mean_scores(rows)
    reasons = [f"{name}: {reason}" for name, reason in failures.items()]
    return Scores(means, {name: fmean(values) for name, values in similarities.items()}, reasons)


def _compare(name: str, run: ArrayFunction, network: nn.Module, lr: np.ndarray) -> float:
    with torch.no_grad():
        reference = network(torch.from_numpy(lr)).numpy()
    sr = run(lr)
    if sr.shape != reference.shape:
        raise UserError(f"{name}: returns {sr.shape} for {lr.shape}, expected {reference.shape}")
    return similarity(sr, reference)


def _on_tensor(run: ArrayFunction, lr: Tensor) -> Tensor:
    return torch.from_numpy(run(lr.numpy()))
