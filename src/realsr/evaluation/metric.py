"""What a metric is, the libraries and files of weights that it needs, and metrics by name.

A metric is a component: a class in a file of `realsr.evaluation.metrics` (or the user's own), and a YAML file of
conf/metric, whose name is the metric's. Its constructor takes the values of the YAML file, and if it has them `device`
(where it computes) and `files` (paths of weights by key, for `require`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from realsr.core.components import Values, build_component
from realsr.core.errors import UserError, WeightsError
from realsr.evaluation.metrics.psnr import PSNR
from realsr.evaluation.metrics.ssim import SSIM

ROOM = "realsr.evaluation.metrics"
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

    features: image, as `ImageMetric` gets it -> (1, F); computed once for all metrics that share the function.
    distance: (N, F) of SR and (M, F) of HR -> value; raises ValueError where there are too few images.
    """

    digits: int

    @property
    def features(self) -> Callable[[Tensor], Tensor]:
        """See above."""

    def distance(self, sr: Tensor, hr: Tensor) -> float:
        """See above."""


Metric = ImageMetric | SetMetric


def load_metrics(
    names: Sequence[str], values: Mapping[str, Values], files: MetricFiles, device: torch.device
) -> dict[str, Metric]:
    """Return metrics by name, in the order of `names`, ready to compute. Nothing is downloaded.

    Args:
        names: any of `values`.
        values: by name what the files of conf/metric say: the class, and the values that its constructor takes.
        files: weights by key; the others are looked for in torch hub's folder.
        device: where networks and features are computed.

    Raises:
        UserError: if a name is unknown, or a library or a file is missing or not what it should be; the message has
            everything that is missing, and what to do about each.
    """
    problems: dict[str, list[str]] = {}
    metrics: dict[str, Metric] = {}
    for name in dict.fromkeys(names):
        try:
            metrics[name] = _load(name, values, files, device)
        except (UserError, WeightsError) as error:
            reasons = str(error).splitlines()
        except ImportError as error:  # of something that a library needs in turn
            reasons = [f"a library cannot be imported: {error}"]
        else:
            continue
        for reason in reasons:
            problems.setdefault(reason, []).append(name)
    if problems:
        raise UserError(
            "\n".join(f"{', '.join(affected)}: {problem}" for problem, affected in problems.items())
        )
    return metrics


def _load(
    name: str, values: Mapping[str, Values], files: MetricFiles, device: torch.device
) -> Metric:
    if name not in values:
        raise UserError(f"there is no such metric; there are {', '.join(values)}")
    metric = build_component(ROOM, f"metric.{name}", values[name], device=device, files=files)
    if not isinstance(metric, ImageMetric | SetMetric):
        raise UserError(
            f"metric.{name}.name={values[name]['name']}: is no metric: expected digits, higher_is_better, needs_hr and "
            "compute, or digits, features and distance"
        )
    return metric


def psnr_and_ssim() -> dict[str, Metric]:
    """Return the two metrics that need neither files nor libraries, over RGB: `psnr` and `ssim` of conf/metric."""
    return {"psnr": PSNR(luma=False), "ssim": SSIM(window="gaussian", luma=False)}


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


def require(
    files: MetricFiles, *weights: WeightFile, libraries: tuple[str, ...] = (), install: str = ""
) -> tuple[Path, ...]:
    """Return the paths of files of weights. Raises UserError with a line for each that is missing.

    libraries: names of modules; install: the command that installs them.
    """
    missing = [library for library in libraries if find_spec(library) is None]
    problems = [f"{' and '.join(missing)} not installed: {install}"] if missing else []
    paths = []
    for weight in weights:
        path = files.get(weight.key)
        if location := weight.locate(path):
            paths.append(location)
        elif path is not None:
            problems.append(
                f"metric_files.{weight.key}={path}: there is no such file; expected {weight.content}, from {weight.url}"
            )
        else:
            place = weight.cached_paths()[0]
            problems.append(
                f"{weight.content} are missing: put {place.name} into {place.parent}, or set "
                f"metric_files.{weight.key}=FILE. The file is at {weight.url}; it is not downloaded automatically"
            )
    if problems:
        raise UserError("\n".join(problems))
    return tuple(paths)
