"""The Charbonnier loss (Lai et al., LapSRN, CVPR 2017)."""

from typing import Annotated

from torch import Tensor

from realsr.core.ranges import Range
from realsr.training.loss_terms.term import LossTerm, StepTensors


class Charbonnier(LossTerm):
    """Mean sqrt((sr - hr)^2 + epsilon^2), an L1 that is smooth at 0.

    Args:
        epsilon: width of the smooth part, in units of the images (0..1).
    """

    def __init__(self, epsilon: Annotated[float, Range(above=0)]) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, x: StepTensors) -> Tensor:
        """Return the mean; the gradient reaches sr only."""
        return ((x.sr - x.hr.detach()).square() + self.epsilon**2).sqrt().mean()
