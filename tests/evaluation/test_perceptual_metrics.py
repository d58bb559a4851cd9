"""LPIPS and DISTS against the plain calls of their libraries, which find the same random weights in hub's folder."""

import warnings
from pathlib import Path

import pytest
import torch
from metric_components import load
from torch import Tensor

from realsr.core.errors import WeightsError
from realsr.evaluation.metric import ImageMetric
from realsr.evaluation.metrics.dists import DISTS
from realsr.evaluation.metrics.lpips import ALEXNET, BACKBONES, SQUEEZENET, VGG16

pytestmark = pytest.mark.usefixtures("no_network", "no_initialisation", "one_thread")


def images(height: int = 48, width: int = 56) -> tuple[Tensor, Tensor]:
    """A photo in 8 bit and a worse one."""
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
    photo = (
        torch.from_numpy(data.astronaut()[60 : 60 + height, 180 : 180 + width]).permute(2, 0, 1)
        / 255
    )
    noise = torch.randn(photo.shape, generator=torch.Generator().manual_seed(0))
    return (photo.roll(1, 2) + 0.05 * noise).clamp(0, 1).mul(255).round() / 255, photo


@pytest.mark.parametrize("net", ["alex", "vgg", "squeeze"])
def test_lpips_is_the_library_s_number(net: str, full_hub: Path) -> None:
    import lpips

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library = lpips.LPIPS(net=net, verbose=False)
    sr, hr = images()
    with torch.no_grad():
        expected = float(library(sr[None] * 2 - 1, hr[None] * 2 - 1))
    metric = load([f"lpips_{net}"])[f"lpips_{net}"]
    assert isinstance(metric, ImageMetric)
    assert metric.needs_hr
    assert not metric.higher_is_better
    assert metric.compute(sr, hr) == pytest.approx(expected, rel=1e-4)
    assert expected > 1e-3
    assert metric.compute(hr, hr) == 0


@pytest.mark.parametrize("net", ["vgg", "squeeze"])
def test_lpips_tells_its_smallest_image_and_can_do_it(net: str, full_hub: Path) -> None:
    metric = load([f"lpips_{net}"])[f"lpips_{net}"]
    assert isinstance(metric, ImageMetric)
    smallest = BACKBONES[net][2]
    assert metric.compute(*images(smallest, smallest)) > 0
    with pytest.raises(ValueError, match=f"at least {smallest}x{smallest} pixels"):
        metric.compute(*images(smallest - 1, smallest))


def test_dists_is_the_library_s_number(full_hub: Path) -> None:
    library = pytest.importorskip(
        "torchmetrics.functional.image.dists", reason="torchmetrics is not installed"
    )
    sr, hr = images()
    with torch.no_grad():
        expected = float(library.deep_image_structure_and_texture_similarity(sr[None], hr[None]))
    metric = load(["dists"], vgg16=full_hub / "checkpoints/vgg16-397923af.pth")["dists"]
    assert isinstance(metric, ImageMetric)
    assert metric.compute(sr, hr) == pytest.approx(expected, rel=1e-4)
    assert 1e-3 < expected < 1
    assert metric.compute(hr, hr) == pytest.approx(0, abs=1e-5)


def test_dists_leaves_the_library_and_chance_as_they_were(hub: Path, cpu: torch.device) -> None:
    library = pytest.importorskip(
        "torchmetrics.functional.image.dists", reason="torchmetrics is not installed"
    )
    builder, before = library.vgg16, torch.random.get_rng_state()
    DISTS(cpu, {"vgg16": hub / "checkpoints/vgg16-397923af.pth"})
    assert library.vgg16 is builder
    assert torch.equal(torch.random.get_rng_state(), before)


def test_dists_refuses_other_weights_and_unequal_images(hub: Path, cpu: torch.device) -> None:
    pytest.importorskip("torchmetrics", reason="torchmetrics is not installed")
    with pytest.raises(WeightsError, match=r"alexnet.*not the weights of VGG16's feature layers"):
        DISTS(cpu, {"vgg16": hub / "checkpoints/alexnet-owt-7be5be79.pth"})
    distance = DISTS(cpu, {"vgg16": hub / "checkpoints/vgg16-397923af.pth"})
    with pytest.raises(ValueError, match=r"of one shape, got \(3, 8, 8\) and \(3, 8, 9\)"):
        distance.compute(torch.zeros(3, 8, 8), torch.zeros(3, 8, 9))


def test_the_files_are_those_that_torchvision_would_download() -> None:
    from torchvision import models

    for file, weights in (
        (ALEXNET, models.AlexNet_Weights),
        (VGG16, models.VGG16_Weights),
        (SQUEEZENET, models.SqueezeNet1_1_Weights),
    ):
        url = weights.IMAGENET1K_V1.url
        assert file.url == url
        assert file.cache_names == (f"checkpoints/{url.rsplit('/', 1)[-1]}",)
