"""LPIPS as a loss (Zhang et al., CVPR 2018)."""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from realsr.evaluation.metrics.lpips import BACKBONES, build_network
from realsr.training.loss_terms.classifier_weights import load_classifier
from realsr.training.loss_terms.term import LossTerm, StepTensors


class LPIPSLoss(LossTerm):
    """LPIPS v0.1 (equation 1), the mean over images: sum over layers l of mean over pixels of
        sum over channels of w_l (y_l(sr) - y_l(hr))^2
    with y_l the features of a classifier, of unit length at each pixel.

    As the metric `lpips`, but without rounding to 8 bits.

    Args:
        net: alex or vgg, the classifier.
        weights: file of its weights; None: torchvision's download.
    """

    min_crop = BACKBONES["alex"][2]
    compares_features = True

    def __init__(self, net: Literal["alex", "vgg"], weights: Path | None) -> None:
        super().__init__()
        state, source = load_classifier(BACKBONES[net][0], weights, "lpips")
        self.net = build_network(net, state, source)

    def forward(self, x: StepTensors) -> Tensor:
        """Return the mean; the gradient reaches sr only."""
        with torch.no_grad():
            target = self._features(x.hr)
        layers = zip(self._features(x.sr), target, self.net.lins, strict=True)
        distances = [
            (lin.model[-1].weight * (sr - hr).square()).sum(1).mean() for sr, hr, lin in layers
        ]
        return torch.stack(distances).sum()

    def _features(self, images: Tensor) -> list[Tensor]:
        layers = self.net.net(self.net.scaling_layer(2 * images - 1))
        return [_normalise(layer.float()) for layer in layers]


def _normalise(features: Tensor) -> Tensor:
    # Not by the library: its gradient is NaN where all channels are 0.
    return features / (features.square().sum(1, keepdim=True) + 1e-20).sqrt()
