"""The model card of an exported folder: a README.md as the Hugging Face Hub reads it.

It holds what the files, the weights' origin and the run's scores record. Other facts are stated to be
unknown.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml  # type: ignore[import-untyped]

from realsr.core.errors import UserError
from realsr.core.file_names import printable
from realsr.core.files import parse_json, write_bytes
from realsr.deployment.export_folder import CARD, list_exported
from realsr.deployment.table import Deployment
from realsr.provenance.fingerprints import fingerprint_file
from realsr.weights.hub import HUB, MODEL_FILE
from realsr.weights.origin import Origin
from realsr.weights.state_files import WeightsFile

if TYPE_CHECKING:
    from jinja2 import Template

# The Hub's identifiers of licences; other texts are `other` with a name.
LICENCES = (
    "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0",
    "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "mpl-2.0",
)  # fmt: skip
TASK = "image-to-image"
ROWS = {  # of `Origin.training`
    "track": "track",
    "data": "folders of photos",
    "init": "initial weights",
    "steps": "steps",
    "seed": "seed",
    "pairs": "pairs of HR and LR",
    "pool": "degradation pool, files",
    "online_degradation": "added during training",
    "versions": "versions",
    "config_sha256": "SHA-256 of the run's config.yaml",
}
MODEL, BICUBIC = "this model", "bicubic interpolation"


@dataclass(frozen=True)
class Measurement:
    """Mean scores by model (first `MODEL`) and metric. images: what they are means over."""

    protocol: str
    images: str
    means: Mapping[str, Mapping[str, float]]

    @property
    def metrics(self) -> list[str]:
        """The names of the metrics that all models have."""
        return [name for name in self.means[MODEL] if all(name in m for m in self.means.values())]


def deployment_scores(deployment: Deployment) -> list[Measurement]:
    """Return the scores of the network in float32 in an export's table."""
    return [
        Measurement(protocol, deployment.judged, {MODEL: means})
        for protocol, values in deployment.rows[0].scores.items()
        if (means := _finite(values))
    ]


def run_scores(file: WeightsFile, sha256: str) -> list[Measurement]:
    """Return the scores in the metrics.json of the run that a file belongs to; empty if none.

    sha256: of the file. Scores of other weights are not returned.
    """
    try:
        report = parse_json((file.path.parent / "metrics.json").read_text(encoding="utf-8"))
        models = report["models"]
        values = next(
            m for m in models.values() if sha256 in m["weights"].get("files", {}).values()
        )
        means = {MODEL: _finite(values["mean"])}
        if "bicubic" in models:
            means[BICUBIC] = _finite(models["bicubic"]["mean"])
        images = f"{report['lr']} (number: {len(values['images'])})"
        return [Measurement(report["protocol"]["name"], images, means)] if means[MODEL] else []
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration, UserError):
        return []


def _finite(means: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: value
        for name, value in means.items()
        if isinstance(value, float) and math.isfinite(value)
    }


def write_card(
    folder: Path,
    origin: Origin,
    generator: Mapping[str, Any],
    scale: int,
    count: int,
    measurements: Sequence[Measurement],
    repository: str | None,
) -> Path:
    """Write the card of an exported folder, and return its path.

    generator: its config. count: of numbers in the weights. repository: OWNER/NAME in the Hub.
    """
    files = [path for path in list_exported(folder) if path.name != CARD]
    name = printable((repository or folder.resolve().name).rpartition("/")[2])
    architecture = str(generator.get("architecture", generator["name"]))
    header = make_header(name, origin, architecture, scale, measurements)
    text = _template().render(
        header=yaml.safe_dump(header, sort_keys=False, allow_unicode=True),
        name=name,
        architecture=architecture,
        scale=scale,
        count=count,
        origin=origin,
        has_weights=folder / MODEL_FILE in files,
        source=f"{HUB}{repository}" if repository else MODEL_FILE,
        repository=repository,
        onnx=[path.name for path in files if path.suffix == ".onnx"],
        has_table=folder / "table.md" in files,
        files=[{"name": path.name} | fingerprint_file(path) for path in files],
        trainings=_list_trainings(origin),
        measurements=measurements,
    )
    write_bytes(folder / CARD, text.encode("utf-8", "backslashreplace"))
    return folder / CARD


def make_header(
    name: str,
    origin: Origin,
    architecture: str,
    scale: int,
    measurements: Sequence[Measurement],
) -> dict[str, Any]:
    """Return the card's metadata by the Hub's keys."""
    licence = (origin.licence or "unknown").lower().replace(" ", "-")
    is_known = origin.licence is None or licence in LICENCES
    header: dict[str, Any] = {"license": licence if is_known else "other"}
    if not is_known:
        header["license_name"] = origin.licence
    tags = ["super-resolution", "image-restoration", printable(architecture), f"x{scale}"]
    header |= {"library_name": "realsr", "pipeline_tag": TASK, "tags": tags}
    if metrics := list(dict.fromkeys(name for m in measurements for name in m.metrics)):
        results = [
            {
                "task": {"type": TASK},
                "dataset": {"type": "photos", "name": f"{m.images}, protocol {m.protocol}"},
                "metrics": [{"type": name, "value": m.means[MODEL][name]} for name in m.metrics],
            }
            for m in measurements
        ]
        header |= {"metrics": metrics, "model-index": [{"name": name, "results": results}]}
    return header


def _list_trainings(origin: Origin) -> list[dict[str, Any]]:
    """Return the name and the rows of each training: several for interpolated weights."""
    training = origin.training or {}
    trainings = {origin.source: training} if "config_sha256" in training else training
    return [
        {"name": name, "rows": [(title, _describe(key, values)) for key, title in ROWS.items()]}
        for name, values in trainings.items()
        if isinstance(values, Mapping)
    ]


def _describe(key: str, training: Mapping[str, Any]) -> str:
    value = training.get(key)
    if isinstance(value, Mapping):
        value = ", ".join(f"{name} {part}" for name, part in value.items() if part is not None)
    if key == "init" and key in training and value is None:
        return "none"
    return "unknown" if value in (None, "") else str(value)


@cache
def _template() -> "Template":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"cell": _cell, "number": "{:.4f}".format}
    return environment.get_template("model_card.md.jinja")


def _cell(text: object) -> str:
    """Return a text, which may come from an untrusted file, for a table: one line, no HTML."""
    line = printable(str(text)).replace("|", "\\|")
    return line.replace("&", "&amp;").replace("<", "&lt;").replace("`", "'")
