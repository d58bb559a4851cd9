"""Metric protocols, loading of metrics by name, and their weight files.

A metric is a component: a class in a file of `realsr.evaluation.metrics` (or a custom one), and a
YAML file of conf/metric, whose name is the metric's name. The constructor takes the values of the
YAML file, and optionally `device` and `files` (paths of weights by key, for `require`).
"""

import io
import logging
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from realsr.core.components import Values, build_component
from realsr.core.errors import UserError, WeightsError
from realsr.weights.published_files import WEIGHT_FILES, WeightFile
from realsr.weights.sources import FETCH_COMMAND
from realsr.weights.state_files import read_checked

logger = logging.getLogger("realsr")

ROOM = "realsr.evaluation.metrics"
METRICS_EXTRA = "pip install 'realsr[metrics]'"
MetricFiles = Mapping[str, Path | None]
"""Paths of weights by key; None or a missing key: the copy in torch hub's folder."""


@runtime_checkable
class ImageMetric(Protocol):
    """A metric with a value for each image.

    digits: decimals in tables.
    compute: (sr, hr) -> value, or (sr) -> value if `needs_hr` is False. Images are (3, H, W)
        float32 on the CPU, 0..1, already rounded to 8 bit and cropped. Raises ValueError for
        unsuitable images, e.g. if they are too small.
    """

    higher_is_better: bool
    needs_hr: bool
    digits: int

    @property
    def compute(self) -> Callable[..., float]:
        """See above."""


@runtime_checkable
class SetMetric(Protocol):
    """A distance between the sets of SR and HR images, from features of each; lower is better.

    features: an image as for `ImageMetric` -> (1, F); metrics with the same function share results.
    distance: (N, F) of SR and (M, F) of HR -> value. Raises ValueError if there are too few images.
    """

    digits: int

    @property
    def features(self) -> Callable[[Tensor], Tensor]:
        """See above."""

    def distance(self, sr: Tensor, hr: Tensor) -> float:
        """See above."""


Metric = ImageMetric | SetMetric


def image_metrics(metrics: Mapping[str, Metric]) -> dict[str, ImageMetric]:
    """Return the metrics with a value for each image."""
    return {name: metric for name, metric in metrics.items() if isinstance(metric, ImageMetric)}


def set_metrics(metrics: Mapping[str, Metric]) -> dict[str, SetMetric]:
    """Return the distances between sets of images."""
    return {name: metric for name, metric in metrics.items() if isinstance(metric, SetMetric)}


def load_metrics(
    names: Sequence[str],
    values: Mapping[str, Values],
    files: MetricFiles,
    device: torch.device,
    optional: bool = False,
) -> dict[str, Metric]:
    """Return metrics by name, in the order of `names`. Nothing is downloaded.

    Args:
        names: keys of `values`.
        values: by metric, the content of its file in conf/metric: class and constructor arguments.
        files: weights by key; others are searched in torch hub's folder.
        device: where networks compute.
        optional: leave out metrics whose libraries are not installed, or whose weights are not in
            torch hub's folder, with a log line, unless none remains.

    Raises:
        UserError: if a name is unknown, or a library or a file is missing or invalid; the message
            lists all problems and their solutions.
    """
    metrics: dict[str, Metric] = {}
    problems: dict[str, list[str]] = {}  # reason -> metrics
    requirements: dict[str, list[str]] = {}  # as problems, of libraries and weights
    for name in dict.fromkeys(names):  # without duplicates
        try:
            metrics[name] = _load(name, values, files, device)
        except (UserError, WeightsError) as error:
            kind = requirements if isinstance(error, MissingRequirementsError) else problems
            for reason in str(error).splitlines():
                kind.setdefault(reason, []).append(name)
        except ImportError as error:  # a dependency of a library
            problems.setdefault(f"a library cannot be imported: {error}", []).append(name)
    lines = [f"{', '.join(users)}: {reason}" for reason, users in (problems | requirements).items()]
    if problems or (requirements and not (optional and metrics)):
        raise UserError("\n".join(lines))
    for line in lines:
        logger.info("left out: %s", line)
    return metrics


def _load(
    name: str, values: Mapping[str, Values], files: MetricFiles, device: torch.device
) -> Metric:
    if name not in values:
        raise UserError(f"unknown metric; choose from {', '.join(values)}")
    metric = build_component(ROOM, f"metric.{name}", values[name], device=device, files=files)
    if not isinstance(metric, ImageMetric | SetMetric):
        raise UserError(
            f"metric.{name}.name={values[name]['name']}: not a metric, expected attributes digits, "
            "higher_is_better, needs_hr and compute, or digits, features and distance"
        )
    return metric


class MissingRequirementsError(UserError):
    """A metric's libraries are not installed, or its weights are not in torch hub's folder."""


def require(
    files: MetricFiles, *weights: WeightFile, libraries: tuple[str, ...] = (), install: str = ""
) -> tuple[Path, ...]:
    """Return the paths of weight files. Raises UserError with a line for each that is missing.

    libraries: names of required modules. install: the command that installs them.
    """
    paths, requirements, problems = list[Path](), list[str](), list[str]()
    if absent := [library for library in libraries if find_spec(library) is None]:
        requirements.append(f"{' and '.join(absent)} not installed: {install}")
    for weight in weights:
        path, place = files.get(weight.key), weight.cache_paths()[0]
        command = f"run {FETCH_COMMAND} what=[{weight.key}], " * (weight.key in WEIGHT_FILES)
        if location := weight.locate(path):
            paths.append(location)
        elif path is not None:
            problems.append(
                f"metric_files.{weight.key}={path}: there is no such file; expected "
                f"{weight.content}, from {weight.url}"
            )
        else:
            requirements.append(
                f"{weight.content} are missing: {command}put {place.name} from {weight.url} into "
                f"{place.parent}, or set metric_files.{weight.key}=FILE"
            )
    if problems:
        raise UserError("\n".join(requirements + problems))
    if requirements:
        raise MissingRequirementsError("\n".join(requirements))
    return tuple(paths)


def read_for_library(weight: WeightFile, path: Path, network: str) -> tuple[Any, io.BytesIO]:
    """Return the tensors of a weight file, and a new pickle that has only them.

    The pickle is for libraries that unpickle any object. network: its name, for messages. Raises
    WeightsError if the file is damaged or has more than tensors.
    """
    content = read_checked(path, f"metric_files.{weight.key}", network)
    pickle = io.BytesIO()
    torch.save(content, pickle)
    pickle.seek(0)
    return content, pickle
