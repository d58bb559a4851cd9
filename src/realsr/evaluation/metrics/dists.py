"""DISTS: structure and texture similarity of images (Ding et al., TPAMI 2020), by torchmetrics."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from realsr.evaluation.metric import METRICS_EXTRA, MetricFiles, require
from realsr.evaluation.metrics.lpips import VGG16
from realsr.evaluation.metrics.psnr import check_images
from realsr.weights.state_files import read_state, select_features


class DISTS:
    """DISTS of images at full size.

    The authors' demo first resizes images to 256 pixels on the short side; super-resolution papers
    do not.

    files: torchvision's state dict of VGG16 (`.pth` or `.safetensors`); the classifier may be
    missing. The weights of DISTS itself come with the library.

    Raises WeightsError if the file is damaged or of another network.
    """

    higher_is_better, needs_hr, digits = False, True, 4

    def __init__(self, device: torch.device, files: MetricFiles) -> None:
        (path,) = require(files, VGG16, libraries=("torchmetrics",), install=METRICS_EXTRA)
        state = read_state(path, "metric_files.vgg16", "VGG16")
        self._device, self._net = device, build_network(state, str(path)).to(device)

    def compute(self, sr: Tensor, hr: Tensor) -> float:
        """Return the distance of two images (3, H, W) of the same size, 0..1; 0 if equal."""
        check_images("DISTS", sr, hr)
        return float(self._net(sr[None].to(self._device), hr[None].to(self._device)))


def build_network(state: object, source: str) -> Any:
    """Return the library's network around VGG16's layers, frozen, on the CPU.

    state, source: VGG16's state dict, not checked, and its origin for messages.

    Raises WeightsError if the weights are of another network.
    """
    # Local imports, since they take more than a second.
    from torchmetrics.functional.image import dists
    from torchvision.models.vgg import cfgs, make_layers

    with torch.device("meta"):
        layers = make_layers(cfgs["D"])
    layout = {key: value.shape for key, value in layers.state_dict().items()}
    layers.load_state_dict(select_features(state, layout, source, "VGG16"), assign=True)
    library: Any = dists  # Any, since its constructor of VGG16, which downloads, is replaced
    build = library.vgg16
    library.vgg16 = lambda weights: SimpleNamespace(features=layers)
    try:
        with torch.random.fork_rng(devices=[]):  # random weights are drawn before loading
            return library.DISTSNetwork().requires_grad_(False).eval()
    finally:
        library.vgg16 = build
