"""Locally discriminative learning (Liang et al., Details or Artifacts, CVPR 2022, section 3)."""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from realsr.core.ranges import Range
from realsr.training.loss_terms.term import LossTerm, StepTensors


class LDL(LossTerm):
    """Mean |M (sr - hr)|, in which the map M (see `artifact_map`) is large where SR has artifacts.

    As in the published code, the gradient also passes through M.

    Args:
        window: side of the neighbourhood of the local variance, odd, in pixels.
    """

    needs = frozenset({"sr_ema"})
    min_crop = 16

    def __init__(self, window: Annotated[int, Range(3, 31)]) -> None:
        super().__init__()
        if window % 2 == 0:
            raise ValueError(f"window={window} is even: expected an odd number")
        self.window = window

    def forward(self, x: StepTensors) -> Tensor:
        """Return the mean; the gradient reaches sr only."""
        assert x.sr_ema is not None
        hr = x.hr.detach()
        return (artifact_map(x.sr, hr, x.sr_ema.detach(), self.window) * (x.sr - hr)).abs().mean()


def artifact_map(sr: Tensor, hr: Tensor, sr_ema: Tensor, window: int) -> Tensor:
    """Images (N,C,H,W) -> map of artifacts (N,1,H,W), 0 or more.

    With the residuals R = sum over channels of |hr - sr| and R_ema of |hr - sr_ema|:
        M = var(R)^(1/5) * var of R in the window around a pixel    where R >= R_ema, 0 elsewhere
    The variances are unbiased; the first is over the whole crop, the second has mirrored borders.
    """
    residual, residual_ema = ((hr - image).abs().sum(1, keepdim=True) for image in (sr, sr_ema))
    # The power has no finite gradient at 0.
    variance = residual.var((1, 2, 3), keepdim=True)
    stability = variance.clamp_min(torch.finfo(variance.dtype).tiny) ** (1 / 5)
    margin = window // 2
    padded = F.pad(residual, [margin] * 4, mode="reflect")
    local = padded.unfold(2, window, 1).unfold(3, window, 1).var((-2, -1))
    return torch.where(residual < residual_ema, 0.0, stability * local)
