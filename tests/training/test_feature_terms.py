"""Terms that compare features of a classifier, against the libraries and written-out formulas."""

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models import alexnet, vgg16

from realsr.core.errors import UserError, WeightsError
from realsr.training.loss_terms.lpips_loss import LPIPSLoss
from realsr.training.loss_terms.perceptual import Perceptual, VGGFeatures
from realsr.training.loss_terms.perceptual_layers import PerceptualLayers
from realsr.training.loss_terms.term import LossTerm, StepTensors

MEAN, STD = (
    torch.tensor(values).view(1, 3, 1, 1)
    for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
)
LAYERS = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29)}  # the ReLUs that LPIPS compares
BUILDERS = {"alex": alexnet, "vgg": vgg16}
FILES = {"alex": "alexnet", "vgg": "vgg16"}


def images(side: int = 40) -> tuple[Tensor, Tensor]:
    chance = torch.Generator().manual_seed(0)
    hr = torch.rand(2, 3, side, side, generator=chance)
    return hr + 0.1 * torch.randn(hr.shape, generator=chance), hr


def value(term: LossTerm, sr: Tensor, hr: Tensor) -> Tensor:
    return term(StepTensors(hr, hr, sr))


def read_library(net: str, file: Path) -> Any:
    """LPIPS by its library, with a classifier's weights."""
    import lpips

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    state = torch.load(file, weights_only=True)
    target = library.net.state_dict()
    names = {f"features.{key.partition('.')[2]}": key for key in target}
    library.net.load_state_dict({names[key]: v for key, v in state.items() if key in names})
    return library


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips_is_the_written_out_formula(net: str, feature_files: dict[str, Path]) -> None:
    file = feature_files[FILES[net]]
    library = read_library(net, file)
    with torch.device("meta"):
        features = BUILDERS[net](weights=None).features
    state = torch.load(file, weights_only=True)
    features.load_state_dict(
        {key.removeprefix("features."): v for key, v in state.items()}, assign=True
    )
    sr, hr = images()
    shift, scale = (
        torch.tensor(v).view(1, 3, 1, 1) for v in ([-0.030, -0.088, -0.188], [0.458, 0.448, 0.450])
    )
    a, b = ((2 * image - 1 - shift) / scale for image in (sr, hr))
    expected = 0.0
    for index, layer in enumerate(features[: LAYERS[net][-1] + 1]):
        a, b = layer(a), layer(b)
        if index in LAYERS[net]:
            place = LAYERS[net].index(index)
            weight = library.state_dict()[f"lin{place}.model.1.weight"]
            difference = a / a.norm(dim=1, keepdim=True) - b / b.norm(dim=1, keepdim=True)
            expected += (weight * difference**2).sum(1).mean().item()
        a, b = a.clone(), b.clone()  # the ReLUs work in place
    term = LPIPSLoss(net, file)
    assert value(term, sr, hr).item() == pytest.approx(expected, rel=1e-4)
    assert value(term, sr, hr).item() == pytest.approx(
        library(sr, hr, normalize=True).mean().item(), rel=1e-4
    )
    assert value(term, hr, hr).item() == 0


def test_lpips_has_a_gradient_where_all_features_are_0(
    tmp_path: Path, feature_files: dict[str, Path]
) -> None:
    state = torch.load(feature_files["alexnet"], weights_only=True)
    torch.save(
        {key: torch.zeros_like(v) for key, v in state.items()}, file := tmp_path / "zero.pth"
    )
    sr, hr = images()
    value(LPIPSLoss("alex", file), sr.requires_grad_(), hr).backward()
    assert sr.grad is not None
    assert not sr.grad.any()


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips_with_real_weights_is_the_library_s_number(
    net: str, shared: Callable[[str], Path]
) -> None:
    file = shared(f"weights/{FILES[net]}_features.pth")
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
    hr = torch.from_numpy(data.astronaut()[60:124, 180:244]).permute(2, 0, 1)[None] / 255
    sr = hr.roll(1, 3) + 0.05 * torch.randn(hr.shape, generator=torch.Generator().manual_seed(0))
    sr.requires_grad_()
    library = read_library(net, file)
    loss, expected = value(LPIPSLoss(net, file), sr, hr), library(sr, hr, normalize=True).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert 0.05 < expected < 1
    gradients = [torch.autograd.grad(x, sr)[0] for x in (loss, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3 * gradients[1].abs().max().item())


def test_weights_of_another_network_are_refused(feature_files: dict[str, Path]) -> None:
    with pytest.raises(WeightsError, match=r"vgg16\.pth: these are not the weights of AlexNet"):
        LPIPSLoss("alex", feature_files["vgg16"])
    with pytest.raises(
        WeightsError, match=r"nowhere\.pth: there is no such file \(loss.lpips.weights\)"
    ):
        LPIPSLoss("alex", Path("nowhere.pth"))


def dists(
    sr: Tensor, hr: Tensor, features: torch.nn.Sequential, alpha: Tensor, beta: Tensor
) -> float:
    """DISTS of two images (1, 3, H, W), channel by channel."""
    window = torch.tensor([0.25, 0.5, 0.25])
    pooling = torch.outer(window, window)[None, None]
    a, b = ((image - MEAN) / STD for image in (sr, hr))
    stages = [(sr, hr)]
    for index, layer in enumerate(features[:30]):
        if index in (4, 9, 16, 23):  # L2 pooling in place of the maximum
            a, b = (
                (
                    torch.nn.functional.conv2d((x**2).transpose(0, 1), pooling, stride=2, padding=1)
                    + 1e-12
                )
                .sqrt()
                .transpose(0, 1)
                for x in (a, b)
            )
        else:
            a, b = layer(a), layer(b)
        if index in (3, 8, 15, 22, 29):
            stages.append((a.clone(), b.clone()))
    similarity, place = 0.0, 0
    for x, y in stages:
        for channel in range(x.shape[1]):
            p, q = x[0, channel].double(), y[0, channel].double()
            structure = (2 * p.mean() * q.mean() + 1e-6) / (p.mean() ** 2 + q.mean() ** 2 + 1e-6)
            covariance = ((p - p.mean()) * (q - q.mean())).mean()
            texture = (2 * covariance + 1e-6) / (
                p.var(unbiased=False) + q.var(unbiased=False) + 1e-6
            )
            similarity += (alpha[place] * structure + beta[place] * texture).item()
            place += 1
    return 1 - similarity / (alpha.sum() + beta.sum()).item()


def test_dists_is_the_written_out_formula(feature_files: dict[str, Path]) -> None:
    pytest.importorskip("torchmetrics", reason="torchmetrics is not installed")
    from realsr.training.loss_terms.dists_loss import DISTSLoss

    term = DISTSLoss(feature_files["vgg16"])
    with torch.device("meta"):
        features = vgg16(weights=None).features
    state = torch.load(feature_files["vgg16"], weights_only=True)
    features.load_state_dict(
        {key.removeprefix("features."): v for key, v in state.items()}, assign=True
    )
    sr, hr = images(32)
    alpha, beta = (weights.flatten() for weights in (term.net.alpha, term.net.beta))
    expected = [dists(sr[n : n + 1], hr[n : n + 1], features, alpha, beta) for n in (0, 1)]
    assert value(term, sr, hr).item() == pytest.approx(sum(expected) / 2, rel=1e-3)
    assert value(term, hr, hr).item() == pytest.approx(0, abs=1e-5)
    assert math.isfinite(value(term, sr[:1], hr[:1]).item())


@pytest.mark.parametrize("name", ["random", "real"])
def test_vgg16_features_are_conv5_3_before_the_relu(
    name: str, feature_files: dict[str, Path], shared: Callable[[str], Path]
) -> None:
    file = feature_files["vgg16"] if name == "random" else shared("weights/vgg16_features.pth")
    with torch.device("meta"):
        features = vgg16(weights=None).features
    state = torch.load(file, weights_only=True)
    features.load_state_dict(
        {key.removeprefix("features."): v for key, v in state.items()}, assign=True
    )
    assert isinstance(features[28], torch.nn.Conv2d)
    assert [type(layer).__name__ for layer in features[29:]] == ["ReLU", "MaxPool2d"]
    sr, hr = images(32)
    expected = features[:29]((hr - MEAN) / STD)
    torch.testing.assert_close(VGGFeatures("vgg16", file)(hr), expected, rtol=1e-4, atol=1e-4)
    assert expected.min() < 0
    distance = (features[:29]((sr - MEAN) / STD) - expected).abs().mean()
    assert value(Perceptual("vgg16", file), sr, hr).item() == pytest.approx(
        distance.item(), rel=1e-4
    )


def test_layers_are_compared_before_their_relu_and_weighted(
    feature_files: dict[str, Path],
) -> None:
    state = torch.load(feature_files["vgg19"], weights_only=True)
    sr, hr = images(32)
    expected = torch.zeros(())
    y = [(image - MEAN) / STD for image in (sr, hr)]
    for index in range(17):  # to conv3_4; the pools of VGG19 are at 4, 9, 18, 27, 36
        if f"features.{index}.weight" in state:
            weight, bias = (state[f"features.{index}.{kind}"] for kind in ("weight", "bias"))
            y = [F.conv2d(x, weight, bias, padding=1) for x in y]
            expected = expected + {2: 0.1, 16: 2.0}.get(index, 0.0) * (y[0] - y[1]).abs().mean()
        else:
            y = [F.max_pool2d(x, 2) if index in (4, 9) else x.relu() for x in y]
    term = PerceptualLayers("vgg19", {16: 2.0, 2: 0.1}, feature_files["vgg19"])
    assert value(term, sr, hr).item() == pytest.approx(expected.item(), rel=1e-4)
    with pytest.raises(
        UserError, match=r"\{3: 1.0\}: expected weights of VGG19's convolutions: 0, 2"
    ):
        PerceptualLayers("vgg19", {3: 1.0}, feature_files["vgg19"])


def test_vgg19_s_weights_are_not_vgg16_s(feature_files: dict[str, Path]) -> None:
    with pytest.raises(WeightsError, match=r"vgg19\.pth: these are not the weights of VGG16"):
        VGGFeatures("vgg16", feature_files["vgg19"])
