"""Score several models on the same images."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from realsr.core.components import locate_error
from realsr.core.errors import UserError
from realsr.core.file_names import printable
from realsr.core.progress import Progress
from realsr.data.folders import list_by_name, match_folders
from realsr.data.validation_images import EvaluationImage, ValidationImage, read_image
from realsr.evaluation.metric import ROOM, ImageMetric, Metric, SetMetric, set_metrics
from realsr.evaluation.protocol import Protocol
from realsr.imaging import ImageError, read_uint8, resize, to_float

ImageReaders = Mapping[str, Callable[[], EvaluationImage]]
Model = Callable[[Tensor], Tensor]
Features = dict[Callable[[Tensor], Tensor], Tensor]  # of an image, by network
ResultHandler = Callable[[EvaluationImage, str, Tensor, Mapping[str, float]], None]
# Errors of a single image, after which the evaluation continues.
IMAGE_ERRORS = (ImageError, UserError, ValueError, MemoryError, torch.OutOfMemoryError)


class MetricError(UserError):
    """A custom metric fails for another reason than an unsuitable image."""


@dataclass
class Results:
    """Scores of models.

    scores: model -> image -> metric -> value, for images that could be scored for all models. PSNR
        of equal images is inf.
    sets: model -> metric -> value over all these images.
    failures: image, set metric or figure -> the reason of its failure.
    """

    scores: dict[str, dict[str, dict[str, float]]]
    sets: dict[str, dict[str, float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def match_images(
    hr: Path | None,
    lr: Path | None,
    protocol: Protocol,
    scale: int,
    damaged: str,
    lr_name: str | None = None,
) -> ImageReaders:
    """Return, by sorted name, a function that reads and prepares the image.

    hr, lr: folders; one of them may be None. Without LR, the protocol defines how LR is made.
    damaged: see `read_uint8`. lr_name: see `match_folders`.

    Raises UserError if both are None or names do not match, ImageError for a folder without images.
    The functions raise ImageError for a file that cannot be read, and the errors of `read_image`.
    """
    if hr is not None:
        side, area = protocol.hr_side, protocol.lr == "area"
        return {
            name: partial(read_image, name, *paths, scale, damaged, side, area)
            for name, paths in match_folders(hr, lr, scale, lr_name).items()
        }
    if lr is None:
        raise UserError(
            "data.hr must be given: set data.hr=DIR, or data.lr=DIR for photos without HR"
        )

    def read_photo(name: str, path: Path) -> EvaluationImage:
        return EvaluationImage(name, to_float(read_uint8(path, damaged)), None)

    return {name: partial(read_photo, name, path) for name, path in list_by_name(lr).items()}


def as_readers(images: Iterable[ValidationImage]) -> ImageReaders:
    """Return images in memory in the form that `match_images` returns."""
    return {image.name: lambda image=image: image for image in images}  # type: ignore[misc]


def bicubic_model(scale: int) -> Model:
    """Return bicubic interpolation as a model: LR (3, h, w) -> (3, s*h, s*w)."""
    return lambda lr: resize(lr, factor=float(scale)).clamp(0, 1)


def evaluate_models(
    models: Mapping[str, Model],
    images: ImageReaders,
    metrics: Mapping[str, Metric],
    crop: int,
    on_result: ResultHandler | None = None,
) -> Results:
    """Score all models on all images.

    SR and HR are rounded to 8 bit and cropped by `crop` border pixels before all metrics. An image
    that cannot be read, upscaled or scored is omitted for all models, so that means are over the
    same images, and listed in `failures`.

    Args:
        models: by name.
        images: by name, see `match_images`; each is read once.
        metrics: by name, see `load_metrics`.
        crop: border pixels to crop.
        on_result: called after each scored result with image, model, SR (3, s*h, s*w) as the model
            returned it, and scores.

    Raises:
        UserError: if no image could be scored. MetricError: if the code of a custom metric fails.
    """
    results, features = Results({name: {} for name in models}), list[dict[str, Features]]()
    with Progress("evaluation", total=len(images) * len(models)) as progress:
        for position, (name, read) in enumerate(images.items(), start=1):
            try:
                scores, image_features = _evaluate_image(
                    read(), models, metrics, crop, on_result, progress
                )
            except MetricError:
                raise
            except IMAGE_ERRORS as error:
                results.failures[name] = _reason(error, name)
                progress.advance(position * len(models) - progress.count)
                continue
            features.append(image_features)
            for model, row in scores.items():
                results.scores[model][name] = row
    if not any(results.scores.values()):
        raise UserError(f"no image could be scored:{list_failures(results.failures)}")
    _compare_sets(set_metrics(metrics), features, results)
    return results


def _evaluate_image(
    image: EvaluationImage,
    models: Mapping[str, Model],
    metrics: Mapping[str, Metric],
    crop: int,
    on_result: ResultHandler | None,
    progress: Progress,
) -> tuple[dict[str, dict[str, float]], dict[str, Features]]:
    """Return the scores of each model, and the features of each model and of HR."""
    scores, features = dict[str, dict[str, float]](), dict[str, Features]()
    hr = None if image.hr is None else _prepare(image.hr, crop)
    if hr is not None:
        features["HR"] = _compute_features(hr, metrics)
    for model, run in models.items():
        sr = run(image.lr)
        prepared_sr = _prepare_sr(sr, image, crop)
        try:
            scores[model] = _score(prepared_sr, hr, metrics)
            features[model] = _compute_features(prepared_sr, metrics)
        except ValueError as error:  # metrics do not know the size before cropping
            raise ValueError(f"{error} (of {_size(sr)}, after crop={crop})") from error
        if on_result is not None:
            on_result(image, model, sr, scores[model])
        progress.advance()
    return scores, features


def list_failures(failures: Mapping[str, str]) -> str:
    """Return a line with name and reason for each failure, after a line break."""
    return "".join(f"\n  {printable(f'{name}: {reason}')}" for name, reason in failures.items())


def _prepare(image: Tensor, crop: int) -> Tensor:
    """Return an image cropped and rounded to 8 bit for metrics, (3, h, w) float32 in 0..1."""
    height, width = image.shape[-2:]
    if min(height, width) <= 2 * crop:
        raise ValueError(f"crop={crop} leaves nothing of {width}x{height} pixels")
    return image[:, crop : height - crop, crop : width - crop].clamp(0, 1).mul(255).round().div(255)


def _prepare_sr(sr: Tensor, image: EvaluationImage, crop: int) -> Tensor:
    if image.hr is not None and sr.shape != image.hr.shape:
        raise ValueError(f"the result is {_size(sr)}, but HR is {_size(image.hr)}")
    if not torch.isfinite(sr).all():
        raise ValueError("the result has values that are not finite")
    return _prepare(sr, crop)


def _score(sr: Tensor, hr: Tensor | None, metrics: Mapping[str, Metric]) -> dict[str, float]:
    scores = {}
    for name, metric in metrics.items():
        if isinstance(metric, ImageMetric):
            if metric.needs_hr and hr is None:
                raise ValueError(f"{name} needs HR")
            images = (sr, hr) if metric.needs_hr else (sr,)
            with _name_failure(name, metric, f"images of {_size(sr)}"):
                scores[name] = float(metric.compute(*images))
            if math.isnan(scores[name]):
                raise ValueError(f"{name} is not a number")
    return scores


def _compute_features(image: Tensor, metrics: Mapping[str, Metric]) -> Features:
    """Return the features of an image; metrics with the same network share them."""
    features: Features = {}
    for name, metric in set_metrics(metrics).items():
        if metric.features not in features:
            with _name_failure(name, metric, f"images of {_size(image)}"):
                features[metric.features] = metric.features(image).cpu()
    return features


def _compare_sets(
    metrics: Mapping[str, SetMetric], features: Sequence[Mapping[str, Features]], results: Results
) -> None:
    """Add the distance of each model's set to the results. features: by image, then model or HR."""
    for name, metric in metrics.items():
        for model in results.scores:
            try:
                with _name_failure(name, metric, f"the features of {len(features)} images"):
                    sr, hr = (
                        torch.cat([image[key][metric.features] for image in features])
                        for key in (model, "HR")
                    )
                    results.sets.setdefault(model, {})[name] = metric.distance(sr, hr)
            except ValueError as error:
                results.failures[name] = _reason(error, f"metric.{name}")


@contextmanager
def _name_failure(name: str, metric: Metric, inputs: str) -> Iterator[None]:
    """Name a custom metric that fails in the block: MetricError, ValueError for unsuitable images."""
    try:
        yield
    except Exception as error:
        if type(metric).__module__.startswith(ROOM):
            raise
        if isinstance(error, ValueError):
            raise ValueError(f"metric.{name}: {error}") from error
        if isinstance(error, IMAGE_ERRORS):
            raise
        raise MetricError(
            f"metric.{name}: {type(metric).__name__} fails on {inputs}: {locate_error(error)}"
        ) from error


def _reason(error: BaseException, name: str) -> str:
    message = str(error) or type(error).__name__
    # Messages of ImageError and UserError are one line, unless a file name has a line break.
    if not isinstance(error, ImageError | UserError):
        message = message.splitlines()[0]
    return message.removeprefix(f"{name}: ")


def _size(image: Tensor) -> str:
    return f"{image.shape[2]}x{image.shape[1]}"
