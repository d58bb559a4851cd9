"""The files of a run that a page shows: configuration, manifests, scores, curves and samples."""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml  # type: ignore[import-untyped]

from realsr.core.errors import UserError
from realsr.core.files import parse_json
from realsr.provenance.manifest import read_manifest

Curve = tuple[np.ndarray, np.ndarray]  # steps and values, (n,) each
ADAPTATION_RUN = "work/runs/adapt"  # the training in the folder of `realsr adapt`


@dataclass(frozen=True)
class RunRecords:
    """A run's folder and its config.yaml, without the defaults of keys that were added later."""

    folder: Path
    config: Mapping[str, Any]

    @cached_property
    def training(self) -> dict[str, Any]:
        """The section `training` of the run's manifest, empty if there is none."""
        return read_manifest(self.folder).get("training", {})

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """The content of metrics.json, empty if the run has not been evaluated."""
        return read_metrics(self.folder / "metrics.json")

    @cached_property
    def validation(self) -> dict[str, Curve]:
        """The curves of metrics.jsonl by metric."""
        rows = []
        if (file := self.folder / "metrics.jsonl").is_file():
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    row = parse_json(line)
                    rows.append({"step": row["step"]} | row)
                except (ValueError, TypeError, KeyError):
                    continue  # a crash may leave an incomplete line
        curves = {}
        for name in dict.fromkeys(name for row in rows for name in row if name != "step"):
            points = [(r["step"], r[name]) for r in rows if isinstance(r.get(name), float)]
            if points:
                curves[name] = _make_curve(points)
        return curves

    @cached_property
    def scalars(self) -> dict[str, Curve]:
        """The curves of the TensorBoard files by tag, without those of validation."""
        folder = self.folder / "tensorboard"
        if not folder.is_dir():
            return {}
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        logging.getLogger("tensorboard").setLevel(logging.WARNING)
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 1})
        events.Reload()
        return {
            tag: _make_curve([(event.step, event.value) for event in events.Scalars(tag)])
            for tag in events.Tags()["scalars"]
            if not tag.startswith("validation ")
        }

    @property
    def scale(self) -> int:
        """The scale of the run."""
        return int(self.config["scale"])

    @property
    def steps(self) -> int:
        """The last step with a record."""
        curves = [*self.scalars.values(), *self.validation.values()]
        return int(max((steps[-1] for steps, _ in curves), default=0))

    def value(self, key: str) -> Any:
        """Return the value of a config key such as `data.source`, None without the key."""
        value: Any = self.config
        for name in key.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    def place(self, key: str) -> Path | None:
        """Return the folder of a config key such as `pairs_dir` or `data.source`, None if missing.

        If the work_dir was moved, the folder is searched at its place relative to the run.
        """
        value = self.value(key)
        if not isinstance(value, str):
            return None
        run, places = Path(self.config.get("run", ".")), [Path(value)]
        if run.is_absolute() == places[0].is_absolute():
            places.insert(0, self.folder / os.path.relpath(value, run))
        return next((path for path in places if path.is_dir()), None)


def _make_curve(points: Sequence[tuple[float, float]]) -> Curve:
    steps, values = np.array(points, float).T
    return steps, values


def read_run(folder: Path) -> RunRecords:
    """Return the records of a run, or of the training in the folder of an adaptation.

    Raises UserError if the folder has no valid config.yaml.
    """
    if (folder / ADAPTATION_RUN / "config.yaml").is_file():
        folder = folder / ADAPTATION_RUN
    file = folder / "config.yaml"
    if not file.is_file():
        raise UserError(f"run={folder}: has no config.yaml: set run=FOLDER of a training")
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: is not valid YAML: set run=FOLDER of a training") from error
    if not isinstance(config, Mapping):
        raise UserError(f"{file}: has no keys: set run=FOLDER of a training")
    if not isinstance(config.get("scale"), int):
        raise UserError(f"{file}: has no scale: set run=FOLDER of a training")
    return RunRecords(folder, config)


def read_metrics(file: Path) -> dict[str, Any]:
    """Return the content of a metrics.json; empty if the file is missing.

    Raises UserError if it is not a metrics.json of realsr.evaluate or realsr.train.
    """
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        for model in content["models"].values():
            for name in ("mean", "interval", "sets", "images"):
                dict(model[name])
        dict(content["protocol"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{file}: not a metrics.json of realsr.evaluate or realsr.train ({error!r})"
        ) from error
    return content
