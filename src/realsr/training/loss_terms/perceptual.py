"""The distance of VGG19's features."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from realsr.networks.vgg_features import VGGFeatures
from realsr.training.loss_terms.term import LossTerm, StepTensors, check_same_shape


class Perceptual(LossTerm):
    """Mean |phi(sr) - phi(hr)| with phi VGG19's conv5_4 before the ReLU (ESRGAN, section 3.3).

    Args:
        weights: file of VGG19 weights; None: torchvision's download (see `VGGFeatures`).

    Raises:
        WeightsError: if the weights cannot be had, read or fitted to VGG19.
    """

    min_crop = 16

    def __init__(self, weights: Path | None) -> None:
        super().__init__()
        self.features: nn.Module = VGGFeatures(weights)

    def forward(self, x: StepTensors) -> Tensor:
        """Return the mean; the gradient reaches sr only. Raises ValueError if the shapes differ."""
        check_same_shape(x.sr, x.hr)
        with torch.no_grad():
            wanted = self.features(x.hr).float()
        return F.l1_loss(self.features(x.sr).float(), wanted)
