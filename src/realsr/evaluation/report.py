"""An evaluation's report: means with bootstrap intervals, models compared image by image, metrics.json, scores.csv."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from realsr.core.file_names import printable
from realsr.core.files import write_bytes
from realsr.core.seeding import numpy_generator
from realsr.evaluation.metric import ImageMetric, Metric
from realsr.evaluation.protocol import LR, Protocol
from realsr.evaluation.scoring import Results
from realsr.provenance.fingerprints import fingerprint_file, package_versions

LIBRARIES = ("lpips", "pytorch-msssim", "torch-fidelity", "torchmetrics", "spandrel")
RESAMPLES = 9999
Interval = tuple[float, float]
Scores = Mapping[str, float]  # by metric


@dataclass(frozen=True)
class Estimate:
    """A mean over images, and the 95 % interval of it; None for one image, or values that are not all finite."""

    mean: float
    interval: Interval | None


@dataclass(frozen=True)
class Difference(Estimate):
    """The mean over images of what a model has more than another, and in how many of the images it is better."""

    better: int
    images: int


def estimate_mean(values: Sequence[float]) -> Estimate:
    """Return the mean and its 95 % interval by the percentile bootstrap (Efron 1979): 9999 resamples of the images.

    The resamples depend on the number of values alone. With few images the interval is too narrow.
    """
    mean = math.fsum(values) / len(values)
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return Estimate(mean, None)
    # Here and not above: it takes a second, and training needs no interval.
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
    return Estimate(
        mean, (float(result.confidence_interval.low), float(result.confidence_interval.high))
    )


def compare(
    values: Sequence[float], reference: Sequence[float], higher_is_better: bool
) -> Difference:
    """Return how a model's values differ from another's on the same images, in the same order.

    Equal values, infinite ones too, differ by 0.
    """
    differences = [0.0 if a == b else a - b for a, b in zip(values, reference, strict=True)]
    estimate = estimate_mean(differences)
    better = sum(
        difference > 0 if higher_is_better else difference < 0 for difference in differences
    )
    return Difference(estimate.mean, estimate.interval, better, len(differences))


def mean_scores(by_image: Mapping[str, Scores]) -> dict[str, float]:
    """Return the mean over images of each metric."""
    rows = list(by_image.values())
    return (
        {metric: math.fsum(row[metric] for row in rows) / len(rows) for metric in rows[0]}
        if rows
        else {}
    )


@dataclass(frozen=True)
class Setting:
    """What numbers hold for: a resolved protocol, what was changed of it, and how SR was computed.

    lr: the folder that LR are from; None: made of HR. hr: whether there is HR.
    """

    protocol: Protocol
    changes: list[str]
    scale: int
    precision: str
    device: str
    lr: str | None = None
    hr: bool = True

    def describe(self) -> str:
        """Return two lines: how images were prepared and compared, and how SR was computed."""
        protocol = self.protocol
        name = protocol.name + (f", changed: {' '.join(self.changes)}" if self.changes else "")
        hr = f"HR cropped to a multiple of {self.scale}" if self.hr else "no HR"
        if self.hr and protocol.hr_side is not None:
            hr = f"HR the original resized to {protocol.hr_side}x{protocol.hr_side} by INTER_AREA"
        lr = LR[protocol.lr] if self.lr is None else f"from {printable(self.lr)}"
        first = f"protocol {name}: x{self.scale}, 8 bit, {protocol.crop} border pixels left out; {hr}; LR {lr}"
        return f"{first}\n{self.precision} on {self.device}; {protocol.note}".rstrip("; ")


@dataclass(frozen=True)
class Report:
    """Results with what they hold for; the first model is what the others are compared with.

    weights: model -> where its weights are from.
    """

    setting: Setting
    metrics: Mapping[str, Metric]
    results: Results
    weights: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

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
        """The metrics that give a number for each image."""
        return {
            name: metric for name, metric in self.metrics.items() if isinstance(metric, ImageMetric)
        }

    @cached_property
    def means(self) -> dict[str, dict[str, Estimate]]:
        """Model -> metric -> mean over images."""
        return {
            m: {name: estimate_mean(self.values(m, name)) for name in self.image_metrics}
            for m in self.models
        }

    @cached_property
    def differences(self) -> dict[str, dict[str, Difference]]:
        """Each model but the first -> metric -> what it has more than the first."""
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
        """Return a model's values over the images."""
        return [row[metric] for row in self.results.scores[model].values()]


def describe_weights(path: Path) -> dict[str, Any]:
    """Return a file of weights, and the SHA-256 of it, or of ncnn's two."""
    files = [path]
    if path.suffix in (".param", ".bin"):
        files = [path.with_suffix(".param"), path.with_suffix(".bin")]
    return {"files": {str(file): fingerprint_file(file)["sha256"] for file in files}}


def write_json(path: Path, report: Report) -> None:
    """Write metrics.json, strictly JSON, atomically; its folder is made if need be.

    Values that are not finite (PSNR of equal images) are null.
    """
    setting = report.setting
    content = {
        "protocol": {**asdict(setting.protocol), "changed": setting.changes, "rounding": "8 bit"},
        "scale": setting.scale,
        "lr": setting.lr,
        "precision": setting.precision,
        "device": setting.device,
        "versions": package_versions(LIBRARIES),
        "models": {model: _model_content(report, model) for model in report.models},
        "failed": report.results.failed,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
    write_bytes(
        path, text.encode("utf-8", "backslashreplace")
    )  # a lone surrogate of a name becomes JSON's \udce9


def _model_content(report: Report, model: str) -> dict[str, Any]:
    means, results = report.means[model], report.results
    differences = {
        name: {
            "mean": _finite(d.mean),
            "interval": d.interval and list(d.interval),
            "better": d.better,
        }
        for name, d in report.differences.get(model, {}).items()
    }
    return {
        "weights": dict(report.weights.get(model, {})),
        "mean": _finite_values({name: estimate.mean for name, estimate in means.items()}),
        "interval": {
            name: estimate.interval and list(estimate.interval) for name, estimate in means.items()
        },
        "sets": _finite_values(results.sets.get(model, {})),
        "against": {report.models[0]: differences} if model in report.differences else {},
        "images": {image: _finite_values(row) for image, row in results.scores[model].items()},
    }


def write_csv(path: Path, report: Report) -> None:
    """Write one row for each image and model, atomically; PSNR of equal images is `inf`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "model", *report.image_metrics])
    for image in report.images:
        for model in report.models:
            row = report.results.scores[model][image]
            writer.writerow(
                [
                    printable(image),
                    printable(model),
                    *(repr(row[name]) for name in report.image_metrics),
                ]
            )
    write_bytes(path, text.getvalue().encode())


def _finite_values(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _finite(value) for name, value in values.items()}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
