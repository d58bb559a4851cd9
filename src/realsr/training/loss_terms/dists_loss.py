"""DISTS as a loss (Ding et al., TPAMI 2020)."""

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from realsr.core.errors import UserError
from realsr.evaluation.metrics.dists import build_network
from realsr.training.loss_terms.classifier_weights import load_classifier
from realsr.training.loss_terms.term import LossTerm, StepTensors


class DISTSLoss(LossTerm):
    """DISTS, as the metric `dists`: 1 minus the similarity of structure and texture.

    The term is the mean over images.

    Args:
        weights: file of VGG16's weights; None: torchvision's download.
    """

    min_crop = 16
    compares_features = True

    def __init__(self, weights: Path | None) -> None:
        super().__init__()
        if find_spec("torchmetrics") is None:
            raise UserError("the loss dists needs torchmetrics: pip install 'realsr[metrics]'")
        self.net = build_network(*load_classifier("VGG16", weights, "dists"))

    def forward(self, x: StepTensors) -> Tensor:
        """Return the mean; the gradient reaches sr only."""
        # Half precision would cancel the variances of features.
        with torch.autocast(x.sr.device.type, enabled=False):
            return self.net(x.sr, x.hr.detach(), require_grad=True).mean()
