"""The L1 distance of Fourier transforms (Cho et al., MIMO-UNet, ICCV 2021)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from realsr.training.loss_terms.term import LossTerm, StepTensors


class FFT(LossTerm):
    """Mean of |real part| and |imaginary part| of FFT(sr) - FFT(hr).

    The transform is the two-dimensional one of each channel, without normalisation: the term grows
    with the side of the crop. MIMO-UNet's frequency reconstruction loss at one scale.
    """

    def forward(self, x: StepTensors) -> Tensor:
        """Return the mean; the gradient reaches sr only."""
        difference = torch.view_as_real(torch.fft.fft2(x.sr - x.hr.detach()))
        return F.l1_loss(difference, torch.zeros_like(difference))
