"""LPIPS: how different two images look (Zhang et al., CVPR 2018), by the authors' library."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from realsr.networks.torchvision_weights import read_state, select_features

logger = logging.getLogger("realsr")

Distance = Callable[[Tensor, Tensor], float]
SMALLEST = 31  # pixels a side: AlexNet's second pooling needs three of the first one's outputs


def load_lpips(weights: Path | None, device: torch.device) -> Distance | None:
    """Return LPIPS v0.1 with AlexNet on a device, or None, and say what to do, where AlexNet's weights are missing.

    The returned function takes two images (3, H, W), float in 0..1, on any device. Both are rounded to 8 bit, as in
    saved files, and then scaled to -1..1. 0 is for equal images. It raises ValueError for images of other or unequal
    shapes, or below 31x31.

    Args:
        weights: an AlexNet state dict of torchvision's (`.pth`, or `.safetensors`), the classifier not needed; None:
            torchvision's cached copy, if it is there. Nothing is ever downloaded. The weights on top of AlexNet are
            in the library.
        device: where it is computed.

    Raises:
        WeightsError: if the file is missing, damaged or of another network.
    """
    if weights is None:
        # Here and not above: it takes more than a second.
        from torchvision.models import AlexNet_Weights

        name = AlexNet_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[-1]
        weights = Path(torch.hub.get_dir()) / "checkpoints" / name
        if not weights.is_file():
            logger.info(
                "LPIPS is left out: it needs torchvision's AlexNet weights. Put %s into %s, or give them by "
                "trainer.lpips_weights=FILE",
                name,
                weights.parent,
            )
            return None
    state = read_state(weights, "trainer.lpips_weights", "AlexNet")
    net = _make_net()
    # The library has the layers in slices: features.3.weight is slice2.3.weight.
    names = {key.partition(".")[2]: key for key in net.net.state_dict()}
    expected = {name: net.net.state_dict()[key].shape for name, key in names.items()}
    features = select_features(state, expected, str(weights), "AlexNet")
    net.net.load_state_dict({names[name]: value for name, value in features.items()})
    net.to(device)

    @torch.no_grad()
    def distance(result: Tensor, reference: Tensor) -> float:
        _check(result, reference)
        images = [image.to(device).clamp(0, 1).mul(255).round().div(127.5).sub(1) for image in (result, reference)]
        return float(net(images[0][None], images[1][None]))

    return distance


def _make_net() -> Any:
    """The library's network with its own weights on top of a random AlexNet; without its words and its chance."""
    import lpips

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        # It calls torchvision in a way that is no longer wished.
        warnings.filterwarnings("ignore", "The parameter 'pretrained'|Arguments other than a weight enum", UserWarning)
        return lpips.LPIPS(net="alex", version="0.1", pnet_rand=True, verbose=False).requires_grad_(False).eval()


def _check(result: Tensor, reference: Tensor) -> None:
    shapes = [tuple(image.shape) for image in (result, reference)]
    if shapes[0] != shapes[1] or len(shapes[0]) != 3 or shapes[0][0] != 3 or min(shapes[0][1:]) < SMALLEST:
        raise ValueError(
            f"LPIPS compares two images (3, H, W) of one shape and at least {SMALLEST}x{SMALLEST} pixels, "
            f"got {shapes[0]} and {shapes[1]}"
        )
