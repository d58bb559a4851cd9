"""What is at hand is measured: the rows whose weights are there, on the folders that are given, by realsr.evaluate."""

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
class Measured:
    """Mean by weights and metric on one data set, by which protocol (all its values), on which folders."""

    folders: Folders
    protocol: dict
    means: dict[str, dict[str, float]]


def missing_weights(row: Row) -> str:
    """Return why a row's weights are not there, and how to get them; "" where they are."""
    if row.weights is None:
        return row.missing
    try:
        if row.weights != "bicubic":
            find_weights(row.weights)
    except UserError as error:
        return str(error)
    return ""


def missing_data(data: DataSet, folders: Folders | None) -> str:
    """Return why a data set cannot be measured on, and how to get it; "" where folders for it are given."""
    wanted = [role for role, there in (("hr", data.hr), ("lr", data.lr)) if there]
    said = " ".join(f"--{role} {data.name}=DIR" for role in wanted)
    if folders is None:
        return f"no folder is given ({said}). To get it: {data.get}"
    if data.hr and folders.hr is None:
        return f"no HR is given ({said}). To get it: {data.get}"
    if data.lr and folders.lr is None and not (folders.stand_in and data.hr):
        return f"no LR is given, which it has of its own ({said}). To get it: {data.get}"
    if data.images is not None and not folders.stand_in and folders.images() != data.images:
        return (
            f"{folders.hr} has {folders.images()} images instead of {data.images}; to measure on another data set in "
            "its place leave its name out: --hr DIR"
        )
    return ""


def measure(
    protocol: str, weights: Sequence[str], folders: Folders, output: Path, overrides: Sequence[str]
) -> Measured:
    """Evaluate weights on folders. Raises UserError where nothing comes of it."""
    given = {"data.hr": folders.hr, "data.lr": folders.lr, "output": output}
    arguments = [
        f"weights=[{','.join(quote(str(source)) for source in weights)}]",
        f"protocol={protocol}",
    ]
    arguments += [f"{key}={quote(str(path))}" for key, path in given.items() if path is not None]
    written = output / "metrics.json"
    written.unlink(missing_ok=True)
    ended = subprocess.run(
        [sys.executable, "-m", "realsr.evaluate", *arguments, *overrides], check=False
    )
    if not written.is_file():
        raise UserError(
            f"realsr.evaluate ended with code {ended.returncode} and no numbers; it said why above"
        )
    return read_measured(written, folders, weights)


def read_measured(path: Path, folders: Folders, weights: Sequence[str]) -> Measured:
    """Return what metrics.json of realsr.evaluate tells of these weights, which it has in this order."""
    content = json.loads(path.read_text())
    means: Mapping[str, dict[str, float]] = content["models"]
    by_source = zip(weights, means.values(), strict=True)
    return Measured(
        folders, content["protocol"], {source: model["mean"] for source, model in by_source}
    )


def quote(value: str) -> str:
    """Return a value as Hydra's command line takes it whatever is in it."""
    return "'" + value.replace("'", "\\'") + "'"
