"""The focal frequency loss (Jiang et al., Focal Frequency Loss, ICCV 2021, section 3)."""

from typing import Annotated

import torch
from torch import Tensor

from realsr.core.errors import UserError
from realsr.core.ranges import Range
from realsr.training.loss_terms.term import LossTerm, StepTensors


class FocalFrequency(LossTerm):
    """Mean w |D|^2 over the frequencies of an image's channels, with D = F(sr) - F(hr).

    F is the two-dimensional orthonormal Fourier transform. The weight w = |D|^alpha, divided by its
    maximum over the frequencies, is a constant: no gradient passes through it.

    Args:
        alpha: exponent of the weight; 0: all frequencies have the same weight.
        patch_factor: number of patches along each side of the crop that are transformed apart.
        ave_spectrum: whether F is the mean over the images of the batch.
        log_matrix: whether w is log(1 + |D|^alpha) before the division.
    """

    def __init__(
        self,
        alpha: Annotated[float, Range(0)],
        patch_factor: Annotated[int, Range(1)],
        ave_spectrum: bool,
        log_matrix: bool,
    ) -> None:
        super().__init__()
        self.alpha, self.patch_factor = alpha, patch_factor
        self.ave_spectrum, self.log_matrix = ave_spectrum, log_matrix

    def forward(self, x: StepTensors) -> Tensor:
        """Return the mean; the gradient reaches sr only.

        Raises UserError if patch_factor does not divide the crop.
        """
        # The transform is linear: that of the difference is the difference of the transforms.
        difference = torch.fft.fft2(self._cut(x.sr - x.hr.detach()), norm="ortho")
        if self.ave_spectrum:
            difference = difference.mean(0, keepdim=True)
        weight = difference.detach().abs() ** self.alpha
        if self.log_matrix:
            weight = weight.log1p()
        # Where all is 0, so is the distance, whatever the weight.
        largest = weight.amax((-2, -1), keepdim=True)
        weight = weight / largest.clamp_min(torch.finfo(weight.dtype).tiny)
        return (weight * torch.view_as_real(difference).square().sum(-1)).mean()

    def _cut(self, images: Tensor) -> Tensor:
        """Images (N,C,H,W) -> patches (N,C,p,p,H/p,W/p)."""
        parts, (height, width) = self.patch_factor, images.shape[-2:]
        if height % parts or width % parts:
            raise UserError(
                f"patch_factor={parts}: cannot divide crops of {height}x{width}; "
                "set a divisor of trainer.crop, such as 1"
            )
        shape = (*images.shape[:2], parts, height // parts, parts, width // parts)
        return images.reshape(shape).transpose(3, 4)
