"""The mean absolute difference of pixels."""

import torch.nn.functional as F
from torch import Tensor

from realsr.training.loss_terms.term import LossTerm, StepTensors


class L1(LossTerm):
    """Mean |sr - hr|."""

    def forward(self, x: StepTensors) -> Tensor:
        """Return the mean; the gradient reaches sr only."""
        return F.l1_loss(x.sr, x.hr.detach())
