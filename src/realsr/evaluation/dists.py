"""DISTS: how alike structure and texture of two images are (Ding et al., TPAMI 2020), by torchmetrics."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from realsr.evaluation.lpips_distance import Distance
from realsr.networks.torchvision_weights import read_state, select_features


def load_dists(weights: Path, device: torch.device) -> Distance:
    """Return DISTS on a device, as a function of two images (3, H, W) of one size, 0..1: 0 for equal ones.

    The images are compared at their own size (the authors' demo first shrinks them to 256 pixels on the short side;
    papers on super-resolution do not).

    Args:
        weights: VGG16's state dict of torchvision's (`.pth`, or `.safetensors`), the classifier not needed. The
            weights of DISTS itself are in the library.
        device: where it is computed.

    Raises:
        WeightsError: if the file is damaged or of another network.
    """
    net = _make_net(_read_vgg16(weights)).to(device)

    def distance(result: Tensor, reference: Tensor) -> float:
        if result.shape != reference.shape or result.ndim != 3 or result.shape[0] != 3:
            raise ValueError(
                f"DISTS compares two images (3, H, W) of one shape, "
                f"got {tuple(result.shape)} and {tuple(reference.shape)}"
            )
        return float(net(result[None].to(device), reference[None].to(device)))

    return distance


def _read_vgg16(path: Path) -> nn.Module:
    # Here and not above: it takes more than a second.
    from torchvision.models.vgg import cfgs, make_layers

    with torch.device("meta"):
        layers = make_layers(cfgs["D"])
    expected = {key: value.shape for key, value in layers.state_dict().items()}
    state = read_state(path, "metric_files.vgg16", "VGG16")
    layers.load_state_dict(select_features(state, expected, str(path), "VGG16"), assign=True)
    return layers


def _make_net(layers: nn.Module) -> Any:
    """The library's network around VGG16's layers, which it would otherwise download."""
    from torchmetrics.functional.image import dists

    build = dists.vgg16
    dists.vgg16 = lambda weights: SimpleNamespace(features=layers)
    try:
        with torch.random.fork_rng(devices=[]):  # it draws weights before it loads its own
            return dists.DISTSNetwork().requires_grad_(False).eval()
    finally:
        dists.vgg16 = build
