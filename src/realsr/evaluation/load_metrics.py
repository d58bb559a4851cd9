"""Metrics by name; what they lack is found, all of it, before the work begins."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from realsr.core.errors import UserError, WeightsError
from realsr.evaluation import fid_kid, no_reference
from realsr.evaluation.dists import load_dists
from realsr.evaluation.lpips_distance import BACKBONES, Distance, load_lpips
from realsr.evaluation.metric import ImageMetric, Metric
from realsr.evaluation.metric_files import MetricFiles, explain_missing, locate
from realsr.evaluation.metrics import ms_ssim, psnr, ssim, ssim_uniform

_PYIQA = (
    "pip install 'realsr[iqa]' && pip install --no-deps pyiqa==0.1.16 "
    "(PolyForm Noncommercial licence; docs/metrics.md says why without its dependencies)"
)
_INSTALL = {
    "torchmetrics": "pip install 'realsr[metrics]'",
    "torch_fidelity": "pip install 'realsr[metrics]'",
    "huggingface_hub": _PYIQA,
    "pyiqa": _PYIQA,
}


@dataclass(frozen=True)
class _Given:
    """What a metric is made of: paths of weights by key, all of them found, and the device."""

    paths: Mapping[str, Path]
    device: torch.device

    @cached_property
    def inception(self) -> fid_kid.Features:
        """One network for FID and KID."""
        return fid_kid.load_inception(self.paths["inception"], self.device)


@dataclass(frozen=True)
class _Recipe:
    make: Callable[[_Given], Metric]
    files: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()


def load_metrics(names: Sequence[str], files: MetricFiles, device: torch.device) -> dict[str, Metric]:
    """Return metrics by name, in the order of `names`, ready to compute. Nothing is downloaded.

    Args:
        names: any of `METRICS`.
        files: weights by path; those not given are looked for in torch hub's folder.
        device: where networks and features are computed.

    Raises:
        UserError: if a name is unknown, or a library or a file is missing or not what it should be; the message has
            everything that is missing, and what to do about each.
    """
    problems: dict[str, list[str]] = {}
    loaded: dict[str, Metric] = {}
    given = _Given(_locate_all(files), device)
    for name in dict.fromkeys(names):
        found = _missing(name, files)
        if not found:
            try:
                loaded[name] = METRICS[name].make(given)
            except WeightsError as error:
                found = [str(error)]
            except ImportError as error:  # of something that a library needs in turn
                found = [f"a library cannot be imported: {error}"]
        for problem in found:
            problems.setdefault(problem, []).append(name)
    if problems:
        raise UserError("\n".join(f"{', '.join(affected)}: {problem}" for problem, affected in problems.items()))
    return loaded


def _missing(name: str, files: MetricFiles) -> list[str]:
    if name not in METRICS:
        return [f"there is no such metric; there are {', '.join(METRICS)}"]
    recipe = METRICS[name]
    libraries = [library for library in recipe.libraries if find_spec(library) is None]
    return [
        *dict.fromkeys(f"{' and '.join(libraries)} not installed: {_INSTALL[library]}" for library in libraries),
        *(explain_missing(key, getattr(files, key)) for key in recipe.files if not locate(key, getattr(files, key))),
    ]


def _locate_all(files: MetricFiles) -> dict[str, Path]:
    found = {key: locate(key, given) for key, given in vars(files).items()}
    return {key: path for key, path in found.items() if path is not None}


def _comparison(name: str, digits: int, compare: Distance, higher_is_better: bool) -> ImageMetric:
    def compute(sr: Tensor, hr: Tensor | None) -> float:
        if hr is None:
            raise ValueError(f"{name} needs HR")
        return compare(sr, hr)

    return ImageMetric(name, higher_is_better, needs_hr=True, digits=digits, compute=compute)


def _lpips(net: str) -> _Recipe:
    key, name = BACKBONES[net].key, f"lpips_{net}"

    def make(given: _Given) -> ImageMetric:
        distance = load_lpips(given.paths[key], given.device, net, f"metric_files.{key}")
        assert distance is not None  # a path is given
        return _comparison(name, 4, distance, higher_is_better=False)

    return _Recipe(make, files=(key,))


def _similarity(name: str, digits: int, compare: Distance) -> _Recipe:
    return _Recipe(lambda given: _comparison(name, digits, compare, higher_is_better=True))


def _quality(
    name: str, load: Callable[[_Given], no_reference.Quality], *files: str, digits: int = 2, higher: bool = False
) -> _Recipe:
    def make(given: _Given) -> ImageMetric:
        quality = load(given)
        return ImageMetric(name, higher, needs_hr=False, digits=digits, compute=lambda sr, hr: quality(sr))

    return _Recipe(make, files, libraries=("pyiqa", "huggingface_hub"))


METRICS: dict[str, _Recipe] = {
    "psnr": _similarity("psnr", 2, psnr),
    "psnr_y": _similarity("psnr_y", 2, partial(psnr, luma=True)),
    "ssim": _similarity("ssim", 4, ssim),
    "ssim_y": _similarity("ssim_y", 4, partial(ssim, luma=True)),
    "ssim_uniform": _similarity("ssim_uniform", 4, ssim_uniform),
    "ms_ssim": _similarity("ms_ssim", 4, ms_ssim),
    **{f"lpips_{net}": _lpips(net) for net in BACKBONES},
    "dists": _Recipe(
        lambda given: _comparison("dists", 4, load_dists(given.paths["vgg16"], given.device), higher_is_better=False),
        ("vgg16",),
        ("torchmetrics",),
    ),
    "fid": _Recipe(lambda given: fid_kid.fid(given.inception), ("inception",), ("torch_fidelity",)),
    "kid": _Recipe(lambda given: fid_kid.kid(given.inception), ("inception",), ("torch_fidelity",)),
    "niqe": _quality("niqe", lambda g: no_reference.load_niqe(g.paths["niqe"], g.device), "niqe"),
    "brisque": _quality(
        "brisque", lambda g: no_reference.load_brisque(g.paths["brisque"], g.device), "brisque", digits=1
    ),
    "piqe": _quality("piqe", lambda g: no_reference.load_piqe(g.device), digits=1),
    "nrqm": _quality("nrqm", lambda g: no_reference.load_nrqm(g.paths["nrqm"], g.device), "nrqm", higher=True),
    "pi": _quality("pi", lambda g: no_reference.load_pi(g.paths["niqe"], g.paths["nrqm"], g.device), "niqe", "nrqm"),
}
