"""What an evaluation leaves: metrics.json, scores.csv and table.md, with all that the numbers hold for."""

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from realsr.core.file_names import printable
from realsr.core.files import write_bytes
from realsr.evaluation.metric import ImageMetric, Metric
from realsr.evaluation.protocol import Protocol, describe
from realsr.evaluation.scoring import Results
from realsr.evaluation.statistics import Difference, Estimate, compare, estimate_mean
from realsr.provenance.fingerprints import fingerprint_file, package_versions

LIBRARIES = ("lpips", "pytorch-msssim", "torch-fidelity", "torchmetrics", "spandrel")


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
        """Return the two lines that tell all of it."""
        first = describe(self.protocol, self.changes, self.scale, self.lr, self.hr)
        return f"{first}\n{self.precision} on {self.device}; {self.protocol.note}".rstrip("; ")


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
        return {name: metric for name, metric in self.metrics.items() if isinstance(metric, ImageMetric)}

    @cached_property
    def means(self) -> dict[str, dict[str, Estimate]]:
        """Model -> metric -> mean over images."""
        return {m: {name: estimate_mean(self.values(m, name)) for name in self.image_metrics} for m in self.models}

    @cached_property
    def differences(self) -> dict[str, dict[str, Difference]]:
        """Each model but the first -> metric -> what it has more than the first."""
        first = self.models[0]
        return {
            model: {
                name: compare(self.values(model, name), self.values(first, name), metric.higher_is_better)
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


def report_content(report: Report) -> dict[str, Any]:
    """Return what metrics.json holds. Values that are not finite (PSNR of equal images) are None."""
    setting, results = report.setting, report.results
    models: dict[str, Any] = {}
    for model in report.models:
        means = report.means[model]
        models[model] = {
            "weights": dict(report.weights.get(model, {})),
            "mean": {name: _finite(estimate.mean) for name, estimate in means.items()},
            "interval": {name: estimate.interval and list(estimate.interval) for name, estimate in means.items()},
            "sets": {name: _finite(value) for name, value in results.sets.get(model, {}).items()},
            "against": {},
            "images": {
                image: {name: _finite(value) for name, value in row.items()}
                for image, row in results.scores[model].items()
            },
        }
        if model in report.differences:
            models[model]["against"][report.models[0]] = {
                name: {"mean": _finite(d.mean), "interval": d.interval and list(d.interval), "better": d.better}
                for name, d in report.differences[model].items()
            }
    return {
        "protocol": {**asdict(setting.protocol), "changed": setting.changes, "rounding": "8 bit"},
        "scale": setting.scale,
        "lr": setting.lr,
        "precision": setting.precision,
        "device": setting.device,
        "versions": package_versions(LIBRARIES),
        "models": models,
        "failed": results.failed,
    }


def write_json(path: Path, report: Report) -> None:
    """Write metrics.json, strictly JSON, atomically; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report_content(report), indent=1, allow_nan=False, ensure_ascii=False)
    write_bytes(path, text.encode("utf-8", "backslashreplace"))  # a lone surrogate of a name becomes JSON's \udce9


def write_csv(path: Path, report: Report) -> None:
    """Write one row for each image and model, atomically; PSNR of equal images is `inf`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "model", *report.image_metrics])
    for image in report.images:
        for model in report.models:
            row = report.results.scores[model][image]
            writer.writerow([printable(image), printable(model), *(repr(row[name]) for name in report.image_metrics)])
    write_bytes(path, text.getvalue().encode())


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
