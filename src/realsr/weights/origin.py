"""Origin of a generator's weights: licence, source and training, as stored in exported files."""

import json
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

import realsr
from realsr.core.errors import UserError
from realsr.core.file_names import printable
from realsr.core.files import parse_json
from realsr.provenance.fingerprints import fingerprint_file
from realsr.provenance.manifest import read_manifest
from realsr.weights.generators import read_notes
from realsr.weights.hub import HUB
from realsr.weights.sources import MODELS
from realsr.weights.state_files import ORIGIN, WeightsFile

logger = logging.getLogger("realsr")

LICENCES = {  # SPDX, by SHA-256 of the file; those of published names are in `MODELS`
    # RealESRGAN_x4plus.pth and RealESRGAN_x4plus_anime_6B.pth of github.com/xinntao/Real-ESRGAN
    "4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1": "BSD-3-Clause",
    "f872d837d3c90ed2e05227bed711af5671a6fd1c9f7d7e91c911a61f155e99da": "BSD-3-Clause",
}
RUN_FILES = ("generator.safetensors", "generator_ema.safetensors", "best.safetensors")
VERSIONS = ("realsr", "torch", "python")
LONGEST = 2000  # characters of a text from a file


@dataclass(frozen=True)
class Origin:
    """Where weights come from.

    licence: an SPDX expression or other text; None if unknown. source: the weights' name, of a path
    outside the current folder only its last part. source_sha256: of the file with the numbers.
    training: config_sha256 (of the run's config.yaml), track, data (names of the photo folders by
    role), init and steps, and of its record if there is one: seed, numbers of pairs and of files of
    the pool, online_degradation and versions; None for other files. made_by: this package and its version.
    """

    licence: str | None
    source: str
    source_sha256: str
    training: Mapping[str, Any] | None
    made_by: str

    def as_texts(self) -> dict[str, str]:
        """Return text by key, without unknown values; `training` is JSON."""
        values = {key: value for key, value in asdict(self).items() if value is not None}
        if self.training is not None:
            values["training"] = json.dumps(self.training)
        return values


def describe_texts(texts: Mapping[str, str]) -> str:
    """Return one line about the `Origin.as_texts` of a file, for the log."""
    parts = [f"licence {texts.get('licence', 'unknown')}"]
    parts += [f"{key} {texts[key]}" for key in ("source", "training") if key in texts]
    parts += [f"written by {texts['made_by']}"] if "made_by" in texts else []
    return printable(", ".join(parts))[:LONGEST]


def find_origin(source: str | Path, file: WeightsFile) -> Origin:
    """Return the origin of a source and its content.

    The licence and the training of a file that this package exported are those of its own source.
    """
    sha256 = fingerprint_file(file.values)["sha256"]
    texts = read_origin(file)
    model = MODELS.get(source) if isinstance(source, str) else None
    licence = model.licence if model else LICENCES.get(sha256) or texts.get("licence")
    training = _find_training(file)
    if training is None and "training" in texts:
        training = parse_json(texts["training"])
    path = Path(source)
    inside = not path.is_absolute() and ".." not in path.parts
    name = printable(source if inside else path.name or file.path.name)
    return Origin(licence, name, sha256, training, f"realsr {realsr.__version__}")


def mix_origins(first: Origin, second: Origin, alpha: float) -> Origin:
    """Return the origin of interpolated weights, `alpha` of the second.

    Both licences apply; the result is unknown if one of them is.
    """
    licences = sorted({first.licence or "", second.licence or ""})
    trainings = {
        origin.source: dict(origin.training) for origin in (first, second) if origin.training
    }
    return Origin(
        " AND ".join(licences) if "" not in licences else None,
        f"{1 - alpha:g} * {first.source} + {alpha:g} * {second.source}",
        f"{first.source_sha256} {second.source_sha256}",
        trainings or None,
        first.made_by,
    )


def read_origin(file: WeightsFile) -> dict[str, str]:
    """Return the `Origin.as_texts` in a file's metadata; empty for files without valid ones."""
    try:
        notes = read_notes(file) or {}
        values = notes["origin"] if "origin" in notes else parse_json(file.metadata[ORIGIN])
        texts = {key: value for key, value in values.items() if key in Origin.__dataclass_fields__}
        training = texts.pop("training", None)
        texts |= {"training": json.dumps(training)} if isinstance(training, dict) else {}
    except (KeyError, ValueError, AttributeError, RecursionError, UserError):
        return {}
    return {
        key: text for key, text in texts.items() if isinstance(text, str) and len(text) <= LONGEST
    }


def log_origin(file: WeightsFile) -> None:
    """Log the origin in a file's metadata, if it has one."""
    if texts := read_origin(file):
        logger.info("%s: %s", file.path, describe_texts(texts))


def _find_training(file: WeightsFile) -> dict[str, Any] | None:
    """Return the facts of the run that a file belongs to, None for other files."""
    folder, steps = file.path.parent, (read_notes(file) or {}).get("step")
    if folder.name == "checkpoints":
        folder, number = folder.parent, file.path.stem.removeprefix("step_")
        steps = int(number) if number.isdecimal() else None
    elif file.path.name not in RUN_FILES:
        return None
    config = folder / "config.yaml"
    try:
        record = read_manifest(folder).get("training", {})
        values = yaml.safe_load(config.read_text(encoding="utf-8"))
        if steps is None:
            steps = record.get("items", {}).get("generator", {}).get("steps")
        data = {role: values["data"].get(role) for role in ("source", "target")}
        if (init := values.get("init")) is not None:
            init = printable(init if init.startswith(HUB) else Path(init).name)
        return {
            "config_sha256": fingerprint_file(config)["sha256"],
            "track": values.get("track"),
            "data": {role: printable(Path(value).name) for role, value in data.items() if value},
            "init": init,
            "steps": steps,
        } | (_describe_record(record) if record else {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError, UserError):
        return None  # not a run, or a run without its config


def _describe_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts in the record of a training."""
    kinds = Counter(name.partition("/")[0] for name in record["inputs"])
    return {
        "seed": record.get("seed"),
        "pairs": kinds["HR"],
        "pool": {"kernels": kinds["kernels"], "noise": kinds["noise"]},
        "online_degradation": record["config"].get("online_degradation.name"),
        "versions": {name: record["versions"].get(name) for name in VERSIONS},
    }
