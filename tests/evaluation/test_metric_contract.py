"""What every metric of conf/metric promises."""

import inspect
import math
from pathlib import Path

import pytest
import torch
from metric_components import NAMES, VALUES, load

from realsr.evaluation.metric import ImageMetric, SetMetric

pytestmark = pytest.mark.usefixtures("no_network", "no_initialisation", "one_thread")
LIBRARIES = {
    "dists": "torchmetrics",
    "fid": "torch_fidelity",
    "kid": "torch_fidelity",
    "no_reference": "pyiqa",
}
IMAGE_METRICS = [name for name in NAMES if name not in ("fid", "kid")]


def skip_without_library(name: str) -> None:
    if library := LIBRARIES.get(VALUES[name]["name"]):
        pytest.importorskip(library, reason=f"{library} is not installed")


def images(count: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth images in 8 bit and worse ones, (count, 3, 176, 192)."""
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(count, 3, 12, 13, generator=generator)
    hr = (
        torch.nn.functional.interpolate(small, (176, 192), mode="bicubic")
        .clamp(0, 1)
        .mul(255)
        .round()
        / 255
    )
    noise = 0.1 * torch.randn(hr.shape, generator=generator)
    return (hr + noise).clamp(0, 1).mul(255).round() / 255, hr


@pytest.mark.parametrize("name", IMAGE_METRICS)
def test_a_metric_of_images(name: str, full_hub: Path) -> None:
    skip_without_library(name)
    metric = load([name])[name]
    assert isinstance(metric, ImageMetric)
    assert not isinstance(metric, SetMetric)
    assert metric.digits > 0
    assert len(inspect.signature(metric.compute).parameters) == (2 if metric.needs_hr else 1)
    (sr,), (hr,) = images()
    before = sr.clone()
    value = metric.compute(sr, hr) if metric.needs_hr else metric.compute(sr)
    assert isinstance(value, float)
    assert math.isfinite(value)
    assert torch.equal(sr, before), "the image is as it was"
    if metric.needs_hr:
        best = metric.compute(hr, hr)
        assert best > value if metric.higher_is_better else best < value
        with pytest.raises(ValueError, match="shape"):
            metric.compute(sr, hr[:, :-1])
    else:
        assert metric.compute(sr) == value


@pytest.mark.parametrize("name", ["fid", "kid"])
def test_a_metric_of_sets(name: str, inception: Path) -> None:
    skip_without_library(name)
    metric = load([name], inception=inception)[name]
    assert isinstance(metric, SetMetric)
    assert not isinstance(metric, ImageMetric)
    assert metric.digits > 0
    sr, _ = images(2)
    features = metric.features(sr[0])
    assert features.shape == (1, 2048)
    assert not torch.equal(features, metric.features(sr[1]))
    # Of a few numbers: the eigenvalues of all 2048 take minutes.
    a = torch.randn(9, 5, generator=torch.Generator().manual_seed(1))
    assert metric.distance(a, a) < metric.distance(a + 2, a)
    assert math.isfinite(metric.distance(a + 2, a))
    with pytest.raises(ValueError, match="at least 2 images"):
        metric.distance(a[:1], a)


def test_all_metrics_are_one_of_the_two_kinds() -> None:
    sets = [name for name in NAMES if VALUES[name]["name"] in ("fid", "kid")]
    assert sorted([*IMAGE_METRICS, *sets]) == NAMES
