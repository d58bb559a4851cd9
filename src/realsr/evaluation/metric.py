"""What a metric is to the evaluation, and what it needs beside images: libraries and files of weights.

A metric is a component: a class in a file of `realsr.evaluation.metrics` (or the user's own), and a YAML file of
conf/metric, whose name is the metric's. Its constructor takes the values of the YAML file, and if it has them `device`
(where it computes) and `files` (paths of weights by key, for `require`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from realsr.core.errors import UserError

MetricFiles = Mapping[str, Path | None]
"""Paths of weights by key; None, or no such key: the copy in torch hub's folder, where the library would keep it."""


@runtime_checkable
class ImageMetric(Protocol):
    """A number for each image.

    digits: decimals in tables.
    compute: (sr, hr) -> value, or (sr) where `needs_hr` is False; images are (3, H, W) float32 on the CPU, 0..1,
        rounded to 8 bit and cropped already. Raises ValueError for images that it cannot compare, e.g. too small ones.
    """

    higher_is_better: bool
    needs_hr: bool
    digits: int

    @property
    def compute(self) -> Callable[..., float]:
        """See above."""


@runtime_checkable
class SetMetric(Protocol):
    """A number for a whole set of images against the set of HR images, from features of each; lower is better.

    features: image, as `ImageMetric` gets it -> (1, F). distance: (N, F) of SR and (M, F) of HR -> value; raises
        ValueError where there are too few images.
    """

    digits: int

    @property
    def features(self) -> Callable[[Tensor], Tensor]:
        """See above."""

    def distance(self, sr: Tensor, hr: Tensor) -> float:
        """See above."""


Metric = ImageMetric | SetMetric


@dataclass(frozen=True)
class WeightFile:
    """A file of weights: its key in `metric_files`, what it holds, where it is published, and where libraries keep it.

    cached: names below torch hub's folder. Nothing is ever downloaded: the libraries that would do so get this file.
    """

    key: str
    content: str
    url: str
    cached: tuple[str, ...]

    def locate(self, path: Path | None = None) -> Path | None:
        """Return the path if there is such a file, or without a path the cached copy; None where there is none."""
        places = self.cached_paths() if path is None else [path]
        return next((place for place in places if place.is_file()), None)

    def cached_paths(self) -> list[Path]:
        """Return where copies are looked for."""
        return [Path(torch.hub.get_dir()) / name for name in self.cached]

    def explain_missing(self, path: Path | None) -> str:
        """Return what is missing, where to get it and what to do."""
        if path is not None:
            return f"metric_files.{self.key}={path}: there is no such file; expected {self.content}, from {self.url}"
        place = self.cached_paths()[0]
        return (
            f"{self.content} are not here: put {place.name} into {place.parent}, or say metric_files.{self.key}=FILE. "
            f"It is at {self.url}; nothing is downloaded by itself"
        )


class MissingRequirementError(UserError):
    """A metric lacks libraries or files; `problems` says of each what to do."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def require(
    files: MetricFiles, *weights: WeightFile, libraries: tuple[str, ...] = (), install: str = ""
) -> tuple[Path, ...]:
    """Return the paths of files of weights. Raises MissingRequirementError that has all that is missing.

    libraries: names of modules; install: the command that installs them.
    """
    missing = [library for library in libraries if find_spec(library) is None]
    problems = [f"{' and '.join(missing)} not installed: {install}"] if missing else []
    paths = [weight.locate(files.get(weight.key)) for weight in weights]
    problems += [
        weight.explain_missing(files.get(weight.key))
        for weight, path in zip(weights, paths, strict=True)
        if path is None
    ]
    if problems:
        raise MissingRequirementError(problems)
    return tuple(path for path in paths if path is not None)
