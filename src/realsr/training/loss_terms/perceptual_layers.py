"""The distance of VGG's features in several layers (Real-ESRGAN, Wang et al. 2021, section 4.1)."""

from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from realsr.core.errors import UserError
from realsr.training.loss_terms.perceptual import NETWORKS, VGGFeatures
from realsr.training.loss_terms.term import LossTerm, StepTensors


class PerceptualLayers(LossTerm):
    """Sum over layers l of w_l mean |phi_l(sr) - phi_l(hr)|, phi_l VGG's convolution l before the ReLU.

    Args:
        network: vgg19 or vgg16.
        layers: weight of each layer by its index in torchvision's `features`.
        weights: file of the network's weights; None: torchvision's download.

    Raises:
        UserError: for an index that is not a convolution.
    """

    min_crop = 16
    compares_features = True

    def __init__(
        self, network: Literal["vgg19", "vgg16"], layers: dict[int, float], weights: Path | None
    ) -> None:
        super().__init__()
        self.features = VGGFeatures(network, weights)
        convolutions = [
            index
            for index, layer in enumerate(self.features.layers)
            if isinstance(layer, nn.Conv2d)
        ]
        if not layers or set(layers) - set(convolutions):
            raise UserError(
                f"loss layers={layers}: expected weights of {NETWORKS[network][0]}'s convolutions: "
                f"{', '.join(map(str, convolutions))}"
            )
        self._weights = dict(layers)
        for layer in self.features.layers:
            if isinstance(layer, nn.ReLU):
                layer.inplace = False  # it would change the features before it

    def forward(self, x: StepTensors) -> Tensor:
        """Return the weighted sum; the gradient reaches sr only."""
        with torch.no_grad():
            targets = self._compute(x.hr)
        pairs = zip(self._weights.values(), self._compute(x.sr), targets, strict=True)
        return torch.stack([weight * F.l1_loss(sr, hr) for weight, sr, hr in pairs]).sum()

    def _compute(self, images: Tensor) -> list[Tensor]:
        y, outputs = (images - self.features.mean) / self.features.std, dict[int, Tensor]()
        for index, layer in enumerate(self.features.layers[: max(self._weights) + 1]):
            y = layer(y)
            if index in self._weights:
                outputs[index] = y.float()
        return [outputs[index] for index in self._weights]
