"""The distance of VGG's features (ESRGAN, section 3.3)."""

from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from realsr.training.loss_terms.classifier_weights import load_classifier
from realsr.training.loss_terms.term import LossTerm, StepTensors
from realsr.weights.state_files import select_features

# Name, torchvision's configuration, number of layers: up to the last convolution, without its ReLU.
NETWORKS = {"vgg19": ("VGG19", "E", 35), "vgg16": ("VGG16", "D", 29)}
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Perceptual(LossTerm):
    """Mean |phi(sr) - phi(hr)|, phi VGG's last convolution before the ReLU (ESRGAN, section 3.3).

    Args:
        network: vgg19 (conv5_4, layer 34) or vgg16 (conv5_3, layer 28).
        weights: file of the network's weights; None: torchvision's download.
    """

    min_crop = 16
    compares_features = True
    networks = ("features",)

    def __init__(self, network: Literal["vgg19", "vgg16"], weights: Path | None) -> None:
        super().__init__()
        self.features: nn.Module = VGGFeatures(network, weights)

    def forward(self, x: StepTensors) -> Tensor:
        """Return the mean; the gradient reaches sr only."""
        with torch.no_grad():
            target = self.features(x.hr).float()
        return F.l1_loss(self.features(x.sr).float(), target)


class VGGFeatures(nn.Module):
    """Output of VGG's last convolution, before the ReLU; the gradient flows to the image only.

    network, weights: as of `Perceptual`. Raises WeightsError if the weights cannot be downloaded or
    read, or do not fit the network.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: str, weights: Path | None) -> None:
        super().__init__()
        # Imported here, since the import takes more than a second.
        from torchvision.models.vgg import cfgs, make_layers

        name, layout, count = NETWORKS[network]
        state, source = load_classifier(name, weights, "perceptual")
        # On the meta device, no random number is spent on values that are replaced.
        with torch.device("meta"):
            self.layers = make_layers(cfgs[layout])[:count]
        shapes = {key: value.shape for key, value in self.layers.state_dict().items()}
        self.layers.load_state_dict(select_features(state, shapes, source, name), assign=True)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def forward(self, x: Tensor) -> Tensor:
        """Return features (N,512,H//16,W//16) of images (N,3,H,W) in 0..1, 16x16 or larger."""
        # The ReLUs work in place, but not on x: the normalisation makes a new tensor.
        return self.layers((x - self.mean) / self.std)
