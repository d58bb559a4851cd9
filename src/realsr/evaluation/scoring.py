"""Models side by side on the same images, in numbers."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from realsr.core.errors import UserError
from realsr.core.file_names import printable
from realsr.core.progress import Progress
from realsr.data.validation_images import EvaluationImage
from realsr.evaluation.images import ImageReaders
from realsr.evaluation.metric import ImageMetric, Metric, SetMetric
from realsr.imaging import ImageError, resize

Model = Callable[[Tensor], Tensor]
Seen = Callable[[EvaluationImage, str, Tensor, Mapping[str, float]], None]
# What makes one image impossible, and leaves the others as they are.
IMAGE_ERRORS = (ImageError, UserError, ValueError, MemoryError, torch.OutOfMemoryError)


@dataclass
class Results:
    """Scores of models.

    scores: model -> image -> metric -> value, over the images that all models could be scored on. PSNR of equal
        images is inf.
    sets: model -> metric -> value over all these images.
    failed: an image, a set metric or a picture that could not be done -> why.
    """

    scores: dict[str, dict[str, dict[str, float]]]
    sets: dict[str, dict[str, float]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def bicubic_model(scale: int) -> Model:
    """Return bicubic interpolation as a model: LR (3, h, w) -> (3, s*h, s*w)."""
    return lambda lr: resize(lr, factor=float(scale)).clamp(0, 1)


def evaluate_models(
    models: Mapping[str, Model],
    images: ImageReaders,
    metrics: Mapping[str, Metric],
    crop: int,
    seen: Seen | None = None,
) -> Results:
    """Score all models on all images.

    SR and HR are rounded to 8 bit and cropped by `crop` border pixels, once, before any metric sees them. An image
    that cannot be read, enlarged or scored is left out for all models, so that means are over the same images, and is
    named in `failed`.

    Args:
        models: by name.
        images: by name, see `match_images`; each is read once.
        metrics: by name, see `load_metrics`.
        crop: border pixels left out.
        seen: called with each result that could be scored: image, model, SR (3, s*h, s*w) as the model gave it, scores.

    Raises:
        UserError: if no image could be scored.
    """
    results = Results({name: {} for name in models})
    features = _Features({name: metric for name, metric in metrics.items() if isinstance(metric, SetMetric)})
    with Progress("evaluation", total=len(images) * len(models)) as progress:
        for position, (name, read) in enumerate(images.items(), start=1):
            try:
                image = read()
                hr = None if image.hr is None else prepare(image.hr, crop)
                scores, found = dict[str, dict[str, float]](), {"HR": features.measure(hr)}
                for model, run in models.items():
                    sr = run(image.lr)
                    cropped = _prepare_sr(sr, image, crop)
                    try:
                        scores[model], found[model] = _score(cropped, hr, metrics), features.measure(cropped)
                    except ValueError as error:  # of a metric, which is not told what was cropped
                        raise ValueError(f"{error} (of {_size(sr)}, after crop={crop})") from error
                    if seen is not None:
                        seen(image, model, sr, scores[model])
                    progress.advance()
            except IMAGE_ERRORS as error:
                results.failed[name] = _reason(error, name)
                progress.advance(position * len(models) - progress.count)
                continue
            features.add(found)
            for model, row in scores.items():
                results.scores[model][name] = row
    if not any(results.scores.values()):
        raise UserError(f"no image could be scored:{list_failures(results.failed)}")
    features.compare(results)
    return results


def prepare(image: Tensor, crop: int) -> Tensor:
    """Return an image as metrics get it: without `crop` border pixels, rounded to 8 bit, (3, h, w) float32 in 0..1.

    Raises ValueError where nothing is left.
    """
    height, width = image.shape[-2:]
    if min(height, width) <= 2 * crop:
        raise ValueError(f"crop={crop} leaves nothing of {width}x{height} pixels")
    return image[:, crop : height - crop, crop : width - crop].clamp(0, 1).mul(255).round().div(255)


def list_failures(failed: Mapping[str, str]) -> str:
    """Return what could not be done, a line for each."""
    return "".join(f"\n  {printable(f'{name}: {reason}')}" for name, reason in failed.items())


def _prepare_sr(sr: Tensor, image: EvaluationImage, crop: int) -> Tensor:
    if image.hr is not None and sr.shape != image.hr.shape:
        raise ValueError(f"the result is {_size(sr)}, but HR is {_size(image.hr)}")
    if not torch.isfinite(sr).all():
        raise ValueError("the result holds values that are not finite numbers")
    return prepare(sr, crop)


def _score(sr: Tensor, hr: Tensor | None, metrics: Mapping[str, Metric]) -> dict[str, float]:
    scores = {}
    for name, metric in metrics.items():
        if isinstance(metric, ImageMetric):
            if metric.needs_hr and hr is None:
                raise ValueError(f"{name} needs HR")
            scores[name] = float(metric.compute(sr, hr) if metric.needs_hr else metric.compute(sr))
            if math.isnan(scores[name]):
                raise ValueError(f"{name} is not a number")
    return scores


class _Features:
    """Features of all images, of HR and of each model, for metrics of sets."""

    def __init__(self, metrics: Mapping[str, SetMetric]) -> None:
        self._metrics = metrics
        self._all: dict[str, dict[str, list[Tensor]]] = {}  # by model, or HR; by metric

    def measure(self, image: Tensor | None) -> dict[str, Tensor]:
        if image is None:
            return {}
        return {name: metric.features(image).cpu() for name, metric in self._metrics.items()}

    def add(self, found: Mapping[str, Mapping[str, Tensor]]) -> None:
        for model, by_metric in found.items():
            for metric, features in by_metric.items():
                self._all.setdefault(model, {}).setdefault(metric, []).append(features)

    def compare(self, results: Results) -> None:
        """Put the distances into the results."""
        for name, metric in self._metrics.items():
            for model in results.scores:
                try:
                    value = metric.distance(torch.cat(self._all[model][name]), torch.cat(self._all["HR"][name]))
                except ValueError as error:
                    results.failed[name] = str(error)
                    continue
                results.sets.setdefault(model, {})[name] = value


def _reason(error: BaseException, name: str) -> str:
    message = str(error) or type(error).__name__
    if not isinstance(error, ImageError | UserError):  # whose one line may name a file with an end of line in its name
        message = message.splitlines()[0]
    return message.removeprefix(f"{name}: ")


def _size(image: Tensor) -> str:
    return f"{image.shape[2]}x{image.shape[1]}"
