"""Whether an exported file computes what the network does, and how good its results are beside those of float32."""

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
from realsr.deployment.export_files import File, Generator
from realsr.deployment.measure import Run, open_file
from realsr.deployment.table import METRICS, REFERENCE, MeanScores
from realsr.evaluation.metric import psnr_and_ssim
from realsr.evaluation.protocol import Protocol, resolve
from realsr.evaluation.scoring import ImageReaders, Model, evaluate_models, match_images
from realsr.inference.model import SRModel, only_finite
from realsr.inference.tiling import as_function
from realsr.simulation.camera import load_photograph

logger = logging.getLogger("realsr")

EVALUATED = ("astronaut", "chelsea", "coffee", "rocket")
"""scikit-image's photographs that files are scored on, none of which is in `quantise.CALIBRATED`."""
ADVICE = ": try more or other int8.photos, int8.methods=[minmax], or more layers in int8.keep"
SIDE = 64  # LR pixels of the photos that files are checked on
SIZES = ((1, 7), (33, 20))  # of random inputs: none that the graph was made with
MIN_PSNR = {"fp32": (80.0, 80.0), "fp16": (35.0, 45.0), "int8": (0.0, 20.0)}
"""PSNR to the network's own result, in dB, on random inputs and on photos, below which a file is refused.

Of noise a generator makes texture that any rounding changes: DF2K in INT8 is 10 dB from float32 there, and 40 on
photos. So INT8 needs only finite numbers there.
"""
WARNED = 30.0
"""PSNR in dB of INT8 to float32 on the images that files are scored on, below which a warning is given."""

EvaluationSets = Mapping[str, tuple[ImageReaders, int]]
"""By protocol, the images that files are scored on, and how many border pixels it leaves out."""


@dataclass(frozen=True)
class Scores:
    """How good results are.

    means: of float32 and each file, by protocol and metric. similarity: each file's mean PSNR in dB to float32 on the
    first protocol's images. failed: images that could not be scored, and why.
    """

    means: Mapping[str, MeanScores]
    similarity: Mapping[str, float]
    failed: list[str]


def check_file(file: File, generator: Generator, photos: Sequence[Tensor]) -> None:
    """Raise UserError where a file's results are not the generator's on two of the photos, see `check_result`.

    Of a file with `scored`, what a CPU computes of that has to be finite: it may overflow where the file does not.
    """
    name, threads = file.path.name, torch.get_num_threads()
    samples = [photo[:, :, :SIDE, :SIDE].contiguous().numpy() for photo in photos[:2]]
    least = check_result(
        name, open_file(file.path, threads), generator.network, samples, file.precision
    )
    if file.scored is not None:
        run = open_file(file.scored, threads)
        if not all(np.isfinite(run(lr)).all() for lr in samples):
            raise UserError(
                f"{name}: its results, each rounded to fp16, are not finite, so it is not written"
            )
    logger.info(
        "%s: written and checked, PSNR to the generator on photos %.1f dB or more", name, least
    )


def check_result(
    name: str, run: Run, network: nn.Module, photos: Sequence[np.ndarray], precision: str
) -> float:
    """Return the least PSNR of a file's results to those of the network on photos (1, 3, h, w).

    Raises UserError where they differ by more than `MIN_PSNR` allows, on these or on random inputs, in size, or are not
    finite.
    """
    random = [
        np.random.default_rng(seed).random((1, 3, *size), np.float32)
        for seed, size in enumerate(SIZES)
    ]
    least = math.inf
    for inputs, minimum, what in zip(
        (random, photos), MIN_PSNR[precision], ("random inputs", "photos"), strict=True
    ):
        least = float(np.min([_compare(name, run, network, lr) for lr in inputs]))
        if not least >= minimum:  # nan is not, either
            raise UserError(
                f"{name}: its results are not the generator's, or not finite (PSNR to them on {what} {least:.1f} dB; "
                f"expected {minimum:g} or more), so it is not written"
            )
    return least


def check_similarity(name: str, precision: str, value: float) -> str:
    """Return a warning about a file's PSNR to float32 on the images it is scored on; empty where it is usual.

    Raises UserError where it is below `MIN_PSNR`.
    """
    least, advice = MIN_PSNR[precision][1], ADVICE if precision == "int8" else ""
    if not value >= least:  # nan is not, either
        raise UserError(
            f"{name}: on the images that files are scored on its PSNR to float32 is {value:.1f} dB; expected {least:g} "
            f"or more, so it is not written{advice}"
        )
    if precision != "int8" or value >= WARNED:
        return ""
    usual = f"usual are 35 to 42, below {WARNED:g} losses can be seen"
    return f"{name}: its PSNR to float32 is {value:.1f} dB; {usual}{advice}"


def similarity(image: np.ndarray, reference: np.ndarray) -> float:
    """Return the PSNR in dB of an image to another, 0..1, clamped and not rounded; nan where one is not finite."""
    if not (np.isfinite(image).all() and np.isfinite(reference).all()):
        return math.nan
    difference = np.clip(image, 0, 1).astype(np.float64) - np.clip(reference, 0, 1)
    error = float(np.square(difference).mean())
    return -10 * math.log10(error) if error > 0 else math.inf


def load_evaluation_sets(
    hr: Path | None, protocols: Mapping[str, Protocol], scale: int, damaged: str = "refuse"
) -> EvaluationSets:
    """Return a folder's images as `match_images` does; without one, scikit-image's four."""

    def read(name: str, protocol: Protocol) -> EvaluationImage:
        photograph = load_photograph(name, "export without folders of photos", "onnx")
        return EvaluationImage(
            name, *prepare_pair(photograph, scale, None, protocol.hr_side, protocol.lr == "area")
        )

    sets = {}
    for key, values in protocols.items():
        protocol = replace(resolve(values, scale), metrics=list(METRICS))
        images: ImageReaders = {name: partial(read, name, protocol) for name in EVALUATED}
        if hr is not None:
            images = match_images(hr, None, protocol, scale, damaged)
        sets[key] = images, protocol.crop or 0
    return sets


def score_files(generator: Generator, files: Sequence[File], sets: EvaluationSets) -> Scores:
    """Score float32 and each file by each protocol. Raises UserError if no image could be scored."""
    models = {REFERENCE: _as_model(generator, torch.no_grad()(generator.network), generator.source)}
    for file in files:
        run = open_file(file.scored or file.path, torch.get_num_threads())
        models[file.path.stem] = _as_model(generator, partial(_on_tensor, run), file.path.name)
    metrics = psnr_and_ssim()
    means: dict[str, dict[str, Mapping[str, float]]] = {name: {} for name in models}
    similarities: dict[str, list[float]] = {file.path.stem: [] for file in files}
    failed = dict[str, str]()
    exact = Tensor()

    def compare(image: EvaluationImage, model: str, sr: Tensor, _: object) -> None:
        nonlocal exact
        if model == REFERENCE:  # the first of each image
            exact = sr
        else:
            similarities[model].append(similarity(sr.numpy(), exact.numpy()))

    for protocol, (images, border) in sets.items():
        logger.info("scored by %s", protocol)
        results = evaluate_models(
            models, images, metrics, border, compare if protocol == next(iter(sets)) else None
        )
        failed |= results.failed
        for model, rows in results.scores.items():
            means[model][protocol] = {
                name: fmean(row[name] for row in rows.values()) for name in METRICS
            }
    reasons = [f"{name}: {reason}" for name, reason in failed.items()]
    return Scores(means, {name: fmean(values) for name, values in similarities.items()}, reasons)


def _compare(name: str, run: Run, network: nn.Module, lr: np.ndarray) -> float:
    with torch.no_grad():
        reference = network(torch.from_numpy(lr)).numpy()
    sr = run(lr)
    if sr.shape != reference.shape:
        raise UserError(
            f"{name}: gives {sr.shape} for {lr.shape}, but the generator {reference.shape}"
        )
    return similarity(sr, reference)


def _on_tensor(run: Run, lr: Tensor) -> Tensor:
    return torch.from_numpy(run(lr.numpy()))


def _as_model(generator: Generator, run: Callable[[Tensor], Tensor], name: str) -> Model:
    """A function of one image, in tiles where memory asks for them."""
    return as_function(
        SRModel(
            generator.scale, torch.device("cpu"), only_finite(run, name), generator.bytes_per_pixel
        )
    )
