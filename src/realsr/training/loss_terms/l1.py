"""The mean absolute difference of pixels."""

import torch.nn.functional as F
from torch import Tensor

from realsr.training.loss_terms.term import LossTerm, StepTensors, check_same_shape


class L1(LossTerm):
    """Mean |sr - hr|."""

    def forward(self, x: StepTensors) -> Tensor:
        """Return the mean; the gradient reaches sr only. Raises ValueError if the shapes differ."""
        check_same_shape(x.sr, x.hr)
        return F.l1_loss(x.sr, x.hr.detach())
