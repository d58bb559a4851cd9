"""Metrics with their published weights, of ../shared, on photos of scikit-image.

Torch hub's folder holds the real feature layers under torchvision's names, and zeros as classifiers,
which no metric uses. So the libraries' own calls read the same weights.
"""

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from metric_components import load
from torch import Tensor

from realsr.evaluation.metric import ImageMetric
from realsr.imaging import resize

pytestmark = pytest.mark.usefixtures("no_network", "no_initialisation", "one_thread")
CLASSIFIERS = {"alexnet": "alexnet-owt-7be5be79.pth", "vgg16": "vgg16-397923af.pth"}
FILES = {"lpips_alex": "alexnet", "lpips_vgg": "vgg16", "dists": "vgg16"}


@pytest.fixture
def real_hub(
    shared: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    from torchvision import models

    (folder := tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    for name, file in CLASSIFIERS.items():
        with torch.device("meta"):
            shapes = models.get_model(name, weights=None).state_dict()
        features = torch.load(shared(f"weights/{name}_features.pth"), weights_only=True)
        zeros = {key: torch.zeros(1).expand(value.shape) for key, value in shapes.items()}
        torch.save(zeros | features, folder / file)
    monkeypatch.setattr("torch.hub._hub_dir", str(folder.parent))
    return folder.parent


def photos(side: int = 128) -> list[Tensor]:
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
    images = data.astronaut()[:side, 120 : 120 + side], data.coffee()[:side, 100 : 100 + side]
    return [torch.from_numpy(image.copy()).permute(2, 0, 1) / 255 for image in images]


def blur(image: Tensor, factor: int) -> Tensor:
    """Downscale and upscale again, in 8 bit."""
    small = resize(image, factor=1 / factor)
    return resize(small, factor=float(factor)).clamp(0, 1).mul(255).round() / 255


def call_library(name: str) -> Callable[[Tensor, Tensor], float]:
    if name == "dists":
        library = pytest.importorskip(
            "torchmetrics.functional.image.dists", reason="torchmetrics is not installed"
        )
        distance = library.deep_image_structure_and_texture_similarity
        return lambda sr, hr: float(distance(sr[None], hr[None]).detach())
    import lpips

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = lpips.LPIPS(net=name.removeprefix("lpips_"), verbose=False)
    return lambda sr, hr: float(network(sr[None], hr[None], normalize=True).detach())


@pytest.mark.parametrize("name", list(FILES))
def test_each_is_its_library_s_number_and_grows_with_blur(name: str, real_hub: Path) -> None:
    library = call_library(name)
    metric = load([name])[name]
    assert isinstance(metric, ImageMetric)
    for hr in photos():
        values = [metric.compute(blur(hr, factor), hr) for factor in (2, 4, 8)]
        assert values == sorted(values)
        assert 0.01 < values[0] < values[2] < 1
        expected = [library(blur(hr, factor), hr) for factor in (2, 4, 8)]
        assert values == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("name", list(FILES))
def test_the_shared_files_are_read_as_they_are(
    name: str, real_hub: Path, shared: Callable[[str], Path]
) -> None:
    """Without classifier layers; the same value as from torch hub's folder."""
    pytest.importorskip("torchmetrics", reason="torchmetrics is not installed")
    key = FILES[name]
    hr = photos(64)[0]
    values = [
        load([name], **files)[name].compute(blur(hr, 4), hr)
        for files in ({}, {key: shared(f"weights/{key}_features.pth")})
    ]
    assert values[0] == values[1]


def test_niqe_is_its_library_s_number_and_grows_with_blur_and_noise(
    shared: Callable[[str], Path],
) -> None:
    pyiqa = pytest.importorskip("pyiqa", reason="pyiqa is not installed")
    file = shared("weights/niqe_official.mat")
    library = pyiqa.create_metric(
        "niqe", device=torch.device("cpu"), pretrained_model_path=str(file)
    )
    metric = load(["niqe"], niqe=file)["niqe"]
    noise = torch.randn(3, 384, 384, generator=torch.Generator().manual_seed(0)) / 255
    for photo in photos(384):
        blurred = [photo, *(blur(photo, factor) for factor in (2, 4, 8))]
        noisy = [(photo + level * noise).clamp(0, 1).mul(255).round() / 255 for level in (10, 20)]
        values = [metric.compute(image) for image in blurred]
        assert values == sorted(values)
        assert values[0] > 2
        assert values[0] < metric.compute(noisy[0]) < metric.compute(noisy[1])
        expected = [library(image[None]).item() for image in blurred]
        assert values == pytest.approx(expected, rel=1e-4)
