"""Report of an evaluation: means with bootstrap intervals, differences of models, JSON and CSV."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from realsr.core.file_names import printable
from realsr.core.files import write_bytes, write_strict_json
from realsr.core.seeding import numpy_generator
from realsr.data.alignment import Alignment
from realsr.evaluation.metric import ImageMetric, Metric, image_metrics
from realsr.evaluation.protocol import LR, Protocol
from realsr.evaluation.scoring import Results
from realsr.provenance.fingerprints import fingerprint_file, package_versions

LIBRARIES = ("lpips", "torch-fidelity", "torchmetrics", "spandrel")
RESAMPLES = 9999
Scores = Mapping[str, float]  # by metric


@dataclass(frozen=True)
class Estimate:
    """A mean over images and its 95 % interval; None for a single image or infinite values."""

    mean: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Difference(Estimate):
    """The mean difference between two models. better: the number of images with a better value."""

    better: int
    images: int


def estimate_mean(values: Sequence[float]) -> Estimate:
    """Return the mean and its 95 % interval by the percentile bootstrap (Efron 1979).

    It uses 9999 resamples of the images, which depend only on the number of values. With few images
    the interval is too narrow.
    """
    mean = fmean(values)
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return Estimate(mean, None)
    # A local import: it takes a second, and training needs no interval.
    from scipy.stats import bootstrap

    result = bootstrap(
        (np.asarray(values, np.float64),),
        np.mean,
        n_resamples=RESAMPLES,
        batch=1000,
        confidence_level=0.95,
        method="percentile",
        random_state=numpy_generator(0, "bootstrap"),
    )
    interval = result.confidence_interval
    return Estimate(mean, (float(interval.low), float(interval.high)))


def compare(
    values: Sequence[float], reference: Sequence[float], higher_is_better: bool
) -> Difference:
    """Return the difference of two models' values on the same images, in the same order.

    Equal values differ by 0, also if they are infinite.
    """
    differences = [0.0 if a == b else a - b for a, b in zip(values, reference, strict=True)]
    estimate = estimate_mean(differences)
    sign = 1 if higher_is_better else -1
    better = sum(sign * difference > 0 for difference in differences)
    return Difference(estimate.mean, estimate.interval, better, len(differences))


def mean_scores(by_image: Mapping[str, Scores]) -> dict[str, float]:
    """Return the mean over images of each metric; empty without images."""
    rows = list(by_image.values())
    return {name: fmean(row[name] for row in rows) for name in (rows[0] if rows else ())}


@dataclass(frozen=True)
class Setting:
    """The conditions of an evaluation.

    protocol: resolved. changes: values that differ from the named protocol.
    lr: the folder of LR; None: LR is made from HR. hr: whether there is HR.
    """

    protocol: Protocol
    changes: list[str]
    scale: int
    precision: str
    device: str
    lr: str | None = None
    hr: bool = True

    def describe(self) -> str:
        """Return two lines: preparation and comparison of images, and computation of SR."""
        protocol = self.protocol
        name = protocol.name + (f", changed: {' '.join(self.changes)}" if self.changes else "")
        hr = f"HR cropped to a multiple of {self.scale}" if self.hr else "no HR"
        if self.hr and protocol.hr_side is not None:
            hr = f"HR: original resized to {protocol.hr_side}x{protocol.hr_side} by INTER_AREA"
        lr = LR[protocol.lr] if self.lr is None else f"from {printable(self.lr)}"
        parts = [f"protocol {name}: x{self.scale}, 8 bit, {protocol.crop} border pixels cropped"]
        first = "; ".join([*parts, hr, f"LR {lr}"])
        return f"{first}\n{self.precision} on {self.device}; {protocol.note}".rstrip("; ")


@dataclass(frozen=True)
class Report:
    """Results and their conditions. The first model is the reference of the others.

    weights: model -> source of its weights. alignments: image -> alignment of its LR and HR, if both
        were given.
    """

    setting: Setting
    metrics: Mapping[str, Metric]
    results: Results
    weights: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    alignments: Mapping[str, Alignment] = field(default_factory=dict)

    def __repr__(self) -> str:
        from realsr.evaluation.tables import format_report  # which imports this module

        return f"Report of {len(self.images)} images\n{format_report(self)}"

    @property
    def models(self) -> list[str]:
        """The models' names."""
        return list(self.results.scores)

    @property
    def images(self) -> list[str]:
        """The names of the images that were scored."""
        return list(self.results.scores[self.models[0]])

    @property
    def image_metrics(self) -> dict[str, ImageMetric]:
        """The metrics with a value for each image."""
        return image_metrics(self.metrics)

    @cached_property
    def means(self) -> dict[str, dict[str, Estimate]]:
        """Model -> metric -> mean over images."""
        return {
            model: {name: estimate_mean(self.values(model, name)) for name in self.image_metrics}
            for model in self.models
        }

    @cached_property
    def differences(self) -> dict[str, dict[str, Difference]]:
        """Model, except the first -> metric -> difference from the first model."""
        first = self.models[0]
        return {
            model: {
                name: compare(
                    self.values(model, name), self.values(first, name), metric.higher_is_better
                )
                for name, metric in self.image_metrics.items()
            }
            for model in self.models[1:]
        }

    def values(self, model: str, metric: str) -> list[float]:
        """Return the values of a model, one for each image."""
        return [row[metric] for row in self.results.scores[model].values()]


def describe_weights(path: Path) -> dict[str, Any]:
    """Return the path and SHA-256 of a weight file, or of both files of an ncnn network."""
    files = [path]
    if path.suffix in (".param", ".bin"):
        files = [path.with_suffix(".param"), path.with_suffix(".bin")]
    return {"files": {str(file): fingerprint_file(file)["sha256"] for file in files}}


def write_json(path: Path, report: Report) -> None:
    """Write metrics.json by `write_strict_json`: infinite values (PSNR of equal images) are null."""
    setting = report.setting
    content = {
        "protocol": {**asdict(setting.protocol), "changed": setting.changes, "rounding": "8 bit"},
        "scale": setting.scale,
        "lr": setting.lr,
        "precision": setting.precision,
        "device": setting.device,
        "versions": package_versions(LIBRARIES),
        "models": {model: _model_content(report, model) for model in report.models},
        "failed": report.results.failures,
    }
    if report.alignments:
        content["alignment"] = {name: asdict(item) for name, item in report.alignments.items()}
    write_strict_json(path, content)


def _model_content(report: Report, model: str) -> dict[str, Any]:
    means, results = report.means[model], report.results
    differences = {
        name: {"mean": d.mean, "interval": d.interval, "better": d.better}
        for name, d in report.differences.get(model, {}).items()
    }
    return {
        "weights": dict(report.weights.get(model, {})),
        "mean": {name: estimate.mean for name, estimate in means.items()},
        "interval": {name: estimate.interval for name, estimate in means.items()},
        "sets": results.sets.get(model, {}),
        "against": {report.models[0]: differences} if model in report.differences else {},
        "images": results.scores[model],
    }


def write_csv(path: Path, report: Report) -> None:
    """Write a row for each image and model, atomically; PSNR of equal images is `inf`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "model", *report.image_metrics])
    for image in report.images:
        for model in report.models:
            scores = report.results.scores[model][image]
            values = [repr(scores[name]) for name in report.image_metrics]
            writer.writerow([printable(image), printable(model), *values])
    write_bytes(path, text.getvalue().encode())
