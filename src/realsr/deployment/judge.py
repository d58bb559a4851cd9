"""How good the results of exported files are, beside those of float32."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean

import torch
from torch import Tensor

from realsr.data.validation_images import EvaluationImage
from realsr.deployment.check import similarity
from realsr.deployment.make import File, Generator
from realsr.deployment.runtimes import Run, open_file
from realsr.deployment.table import METRICS, REFERENCE, Scores
from realsr.evaluation.images import ImageReaders
from realsr.evaluation.load_metrics import psnr_and_ssim
from realsr.evaluation.scoring import Model, evaluate_models
from realsr.inference.model import SRModel, only_finite
from realsr.inference.tiling import as_function

logger = logging.getLogger("realsr")

Judges = Mapping[str, tuple[ImageReaders, int]]
"""By protocol, the images that files are judged by, and how many border pixels it leaves out."""


@dataclass(frozen=True)
class Verdict:
    """scores: of float32 and each file; similarity: each file's mean PSNR to float32 by the first protocol's images."""

    scores: Mapping[str, Scores]
    similarity: Mapping[str, float]
    failed: list[str]


def judge(generator: Generator, files: Sequence[File], judges: Judges) -> Verdict:
    """Score float32 and each file by each protocol. Raises UserError if no image could be scored."""
    models = {REFERENCE: _as_model(generator, torch.no_grad()(generator.network), generator.source)}
    for file in files:
        run = open_file(file.scored or file.path, torch.get_num_threads())
        models[file.path.stem] = _as_model(generator, partial(_on_tensor, run), file.path.name)
    scores: dict[str, dict[str, Mapping[str, float]]] = {name: {} for name in models}
    similarities: dict[str, list[float]] = {file.path.stem: [] for file in files}
    failed = dict[str, str]()
    exact = Tensor()

    def see(image: EvaluationImage, model: str, sr: Tensor, _: object) -> None:
        nonlocal exact
        if model == REFERENCE:  # the first of each image
            exact = sr
        else:
            similarities[model].append(similarity(sr.numpy(), exact.numpy()))

    for protocol, (images, crop) in judges.items():
        logger.info("judged by %s", protocol)
        results = evaluate_models(
            models, images, psnr_and_ssim(), crop, see if protocol == next(iter(judges)) else None
        )
        failed |= results.failed
        for model, rows in results.scores.items():
            scores[model][protocol] = {name: fmean(row[name] for row in rows.values()) for name in METRICS}
    told = [f"{name}: {reason}" for name, reason in failed.items()]
    return Verdict(scores, {name: fmean(values) for name, values in similarities.items()}, told)


def _on_tensor(run: Run, lr: Tensor) -> Tensor:
    return torch.from_numpy(run(lr.numpy()))


def _as_model(generator: Generator, run: Callable[[Tensor], Tensor], name: str) -> Model:
    """A function of one image, in tiles where memory asks for them."""
    return as_function(SRModel(generator.scale, torch.device("cpu"), only_finite(run, name), generator.bytes_per_pixel))
