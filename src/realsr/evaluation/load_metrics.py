"""Metrics by name; what they lack is found, all of it, before the work begins."""

from collections.abc import Mapping, Sequence

import torch

from realsr.core.components import Values, build_component
from realsr.core.errors import UserError, WeightsError
from realsr.evaluation.metric import ImageMetric, Metric, MetricFiles, MissingRequirementError, SetMetric
from realsr.evaluation.metrics.psnr import PSNR
from realsr.evaluation.metrics.ssim import SSIM

ROOM = "realsr.evaluation.metrics"


def load_metrics(
    names: Sequence[str], values: Mapping[str, Values], files: MetricFiles, device: torch.device
) -> dict[str, Metric]:
    """Return metrics by name, in the order of `names`, ready to compute. Nothing is downloaded.

    Args:
        names: any of `values`.
        values: by name what the files of conf/metric say: the class, and the values that its constructor takes.
        files: weights by path; those not given are looked for in torch hub's folder.
        device: where networks and features are computed.

    Raises:
        UserError: if a name is unknown, or a library or a file is missing or not what it should be; the message has
            everything that is missing, and what to do about each.
    """
    problems: dict[str, list[str]] = {}
    loaded: dict[str, Metric] = {}
    for name in dict.fromkeys(names):
        try:
            loaded[name] = _load(name, values, files, device)
        except MissingRequirementError as error:
            reasons = error.problems
        except (UserError, WeightsError) as error:
            reasons = [str(error)]
        except ImportError as error:  # of something that a library needs in turn
            reasons = [f"a library cannot be imported: {error}"]
        else:
            continue
        for reason in reasons:
            problems.setdefault(reason, []).append(name)
    if problems:
        raise UserError("\n".join(f"{', '.join(affected)}: {problem}" for problem, affected in problems.items()))
    return loaded


def _load(name: str, values: Mapping[str, Values], files: MetricFiles, device: torch.device) -> Metric:
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
