"""LPIPS: how different two images look (Zhang et al., CVPR 2018), by the authors' library."""

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from realsr.evaluation.metric_files import WEIGHT_FILES, locate
from realsr.networks.torchvision_weights import read_state, select_features

logger = logging.getLogger("realsr")

Distance = Callable[[Tensor, Tensor], float]


@dataclass(frozen=True)
class Backbone:
    """A classifier whose features are compared: name, key in `WEIGHT_FILES`, smallest side of an image in pixels."""

    name: str
    key: str
    smallest: int


BACKBONES = {
    "alex": Backbone("AlexNet", "alexnet", 31),  # its second pooling needs three of the first one's outputs
    "vgg": Backbone("VGG16", "vgg16", 16),  # halved four times
    "squeeze": Backbone("SqueezeNet 1.1", "squeezenet", 17),
}
SMALLEST = BACKBONES["alex"].smallest


def load_lpips(
    weights: Path | None, device: torch.device, net: str = "alex", option: str = "trainer.lpips_weights"
) -> Distance | None:
    """Return LPIPS v0.1 on a device, or None, and say what to do, where the backbone's weights are missing.

    The returned function takes two images (3, H, W), float in 0..1, on any device. Both are rounded to 8 bit, as in
    saved files, and then scaled to -1..1. 0 is for equal images. It raises ValueError for images of other or unequal
    shapes, or below the backbone's smallest.

    Args:
        weights: the backbone's state dict of torchvision's (`.pth`, or `.safetensors`), the classifier not needed;
            None: torchvision's cached copy, if it is there. Nothing is ever downloaded. The weights on top of the
            backbone are in the library.
        device: where it is computed.
        net: the backbone: `alex`, `vgg` or `squeeze`.
        option: what `weights` was given by, for messages.

    Raises:
        WeightsError: if the file is missing, damaged or of another network.
    """
    backbone = BACKBONES[net]
    path = locate(backbone.key, None) if weights is None else weights
    if path is None:
        expected_at = Path(torch.hub.get_dir()) / WEIGHT_FILES[backbone.key].cached[0]
        logger.info(
            "LPIPS is left out: it needs torchvision's %s weights. Put %s into %s, or give them by %s=FILE",
            backbone.name,
            expected_at.name,
            expected_at.parent,
            option,
        )
        return None
    state = read_state(path, option, backbone.name)
    lpips = _make_net(net)
    # The library has the layers in slices: features.3.weight is slice2.3.weight.
    slices = lpips.net.state_dict()
    names = {key.partition(".")[2]: key for key in slices}
    expected = {name: slices[key].shape for name, key in names.items()}
    features = select_features(state, expected, str(path), backbone.name)
    lpips.net.load_state_dict({names[name]: value for name, value in features.items()})
    lpips.to(device)

    @torch.no_grad()
    def distance(result: Tensor, reference: Tensor) -> float:
        _check(result, reference, backbone.smallest)
        images = [image.to(device).clamp(0, 1).mul(255).round().div(127.5).sub(1) for image in (result, reference)]
        return float(lpips(images[0][None], images[1][None]))

    return distance


def _make_net(net: str) -> Any:
    """The library's network with its own weights on top of a random backbone; without its words and its chance."""
    import lpips

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        # It calls torchvision in a way that is no longer wished.
        warnings.filterwarnings("ignore", "The parameter 'pretrained'|Arguments other than a weight enum", UserWarning)
        return lpips.LPIPS(net=net, version="0.1", pnet_rand=True, verbose=False).requires_grad_(False).eval()


def _check(result: Tensor, reference: Tensor, smallest: int) -> None:
    shapes = [tuple(image.shape) for image in (result, reference)]
    if shapes[0] != shapes[1] or len(shapes[0]) != 3 or shapes[0][0] != 3 or min(shapes[0][1:]) < smallest:
        raise ValueError(
            f"LPIPS compares two images (3, H, W) of one shape and at least {smallest}x{smallest} pixels, "
            f"got {shapes[0]} and {shapes[1]}"
        )
