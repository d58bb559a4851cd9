"""LPIPS: perceptual distance of two images (Zhang et al., CVPR 2018), by the authors' library."""

import warnings
from typing import Any, Literal

import torch
from torch import Tensor

from realsr.evaluation.metric import MetricFiles, require
from realsr.evaluation.metrics.psnr import check_images
from realsr.weights.published_files import WEIGHT_FILES
from realsr.weights.state_files import read_state, select_features

ALEXNET, VGG16, SQUEEZENET = (WEIGHT_FILES[key] for key in ("alexnet", "vgg16", "squeezenet"))
# Name, weights, and the smallest side of an image in pixels. AlexNet's second pooling needs three
# outputs of the first.
BACKBONES = {
    "alex": ("AlexNet", ALEXNET, 31),
    "vgg": ("VGG16", VGG16, 16),
    "squeeze": ("SqueezeNet 1.1", SQUEEZENET, 17),
}


class LPIPS:
    """LPIPS v0.1. net: the classifier whose features are compared.

    files: torchvision's state dict of the classifier (`.pth` or `.safetensors`); its last layers
    may be missing. The weights of LPIPS itself come with the library.

    Raises WeightsError if the file is damaged or of another network.
    """

    higher_is_better, needs_hr, digits = False, True, 4

    def __init__(
        self, net: Literal["alex", "vgg", "squeeze"], device: torch.device, files: MetricFiles
    ) -> None:
        name, weights, self._smallest = BACKBONES[net]
        (path,) = require(files, weights)
        state = read_state(path, f"metric_files.{weights.key}", name)
        self._device, self._net = device, build_network(net, state, str(path)).to(device)

    @torch.no_grad()
    def compute(self, sr: Tensor, hr: Tensor) -> float:
        """Return the distance of two images (3, H, W), float in 0..1, on any device; 0 if equal.

        Both are rounded to 8 bit, as in saved files, and scaled to -1..1. Raises ValueError for
        other or unequal shapes, and for images too small for the classifier.
        """
        check_images("LPIPS", sr, hr, smallest=self._smallest)
        images = [
            image.to(self._device).clamp(0, 1).mul(255).round().div(127.5).sub(1)
            for image in (sr, hr)
        ]
        return float(self._net(images[0][None], images[1][None]))


def build_network(net: str, state: object, source: str) -> Any:
    """Return the library's network with a classifier's weights below its own, frozen, on the CPU.

    Args:
        net: a key of `BACKBONES`.
        state, source: the classifier's state dict, not checked, and its origin for messages.

    Raises:
        WeightsError: if the weights are of another network.
    """
    import lpips

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        # The library passes deprecated arguments to torchvision.
        warnings.filterwarnings(
            "ignore", "The parameter 'pretrained'|Arguments other than a weight enum", UserWarning
        )
        network = lpips.LPIPS(net=net, version="0.1", pnet_rand=True, verbose=False)
    # The library has the layers in slices: features.3.weight is slice2.3.weight.
    slices = network.net.state_dict()
    names = {key.partition(".")[2]: key for key in slices}
    layout = {layer: slices[key].shape for layer, key in names.items()}
    features = select_features(state, layout, source, BACKBONES[net][0])
    network.net.load_state_dict({names[layer]: value for layer, value in features.items()})
    return network.requires_grad_(False).eval()
