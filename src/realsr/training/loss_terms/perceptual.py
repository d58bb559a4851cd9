"""The distance of VGG19's features."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from realsr.networks.vgg_features import VGGFeatures
from realsr.training.loss_terms.term import LossTerm, StepTensors


class Perceptual(LossTerm):
    """Mean |phi(sr) - phi(hr)| with phi VGG19's conv5_4 before the ReLU (ESRGAN, section 3.3).

    Args:
        weights: file of VGG19 weights; None: torchvision's download (see `VGGFeatures`).
    """

    min_crop = 16

    def __init__(self, weights: Path | None) -> None:
        super().__init__()
        self.features: nn.Module = VGGFeatures(weights)

    def forward(self, x: StepTensors) -> Tensor:
        """Return the mean; the gradient reaches sr only."""
        with torch.no_grad():
            target = self.features(x.hr).float()
        return F.l1_loss(self.features(x.sr).float(), target)
