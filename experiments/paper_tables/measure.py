"""Measure the rows of a table whose weights and folders are available."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from published import DataSet, Row

from realsr.core.errors import UserError
from realsr.imaging import list_images
from realsr.weights.sources import find_weights


@dataclass(frozen=True)
class Folders:
    """Folders for a data set; a stand-in is another data set in its place."""

    hr: Path | None
    lr: Path | None
    stand_in: bool

    def images(self) -> int:
        """Return how many images there are."""
        return len(list_images(self.hr or self.lr or Path()))


@dataclass(frozen=True)
class Measurement:
    """Means by weights and metric on one data set, with protocol and folders."""

    folders: Folders
    protocol: dict
    means: dict[str, dict[str, float]]


def missing_weights(row: Row) -> str:
    """Return why the weights of a row are missing and how to get them; "" if available."""
    if row.weights is None:
        return row.missing
    try:
        if row.weights != "bicubic":
            find_weights(row.weights)
    except UserError as error:
        return str(error)
    return ""


def missing_data(data: DataSet, folders: Folders | None) -> str:
    """Return why a data set is unavailable and how to get it; "" if it has folders."""
    roles = [role for role, required in (("hr", data.hr), ("lr", data.lr)) if required]
    options = " ".join(f"--{role} {data.name}=DIR" for role in roles)
    if folders is None:
        return f"no folder is given ({options}). To get it: {data.get}"
    if data.hr and folders.hr is None:
        return f"no HR is given ({options}). To get it: {data.get}"
    if data.lr and folders.lr is None and not (folders.stand_in and data.hr):
        return f"no LR is given, which it has of its own ({options}). To get it: {data.get}"
    if data.images is not None and not folders.stand_in and folders.images() != data.images:
        return (
            f"{folders.hr} has {folders.images()} images instead of {data.images}; to measure on another data set in "
            "its place leave its name out: --hr DIR"
        )
    return ""


def measure(
    protocol: str, weights: Sequence[str], folders: Folders, output: Path, overrides: Sequence[str]
) -> Measurement:
    """Evaluate weights on folders. Raises UserError if the evaluation fails."""
    keys = {"data.hr": folders.hr, "data.lr": folders.lr, "output": output}
    arguments = [
        f"weights=[{','.join(quote(str(source)) for source in weights)}]",
        f"protocol={protocol}",
    ]
    arguments += [f"{key}={quote(str(path))}" for key, path in keys.items() if path is not None]
    metrics_file = output / "metrics.json"
    metrics_file.unlink(missing_ok=True)
    process = subprocess.run(
        [sys.executable, "-m", "realsr.evaluate", *arguments, *overrides], check=False
    )
    if not metrics_file.is_file():
        raise UserError(
            f"realsr.evaluate ended with code {process.returncode} and no numbers; it said why above"
        )
    return read_measurement(metrics_file, folders, weights)


def read_measurement(path: Path, folders: Folders, weights: Sequence[str]) -> Measurement:
    """Read metrics.json of realsr.evaluate; `weights` has the order of its models."""
    content = json.loads(path.read_text())
    means: Mapping[str, dict[str, float]] = content["models"]
    by_source = zip(weights, means.values(), strict=True)
    return Measurement(
        folders, content["protocol"], {source: model["mean"] for source, model in by_source}
    )


def quote(value: str) -> str:
    """Quote a value for Hydra's command line."""
    return "'" + value.replace("'", "\\'") + "'"
