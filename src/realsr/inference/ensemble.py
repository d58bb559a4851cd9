"""Geometric self-ensemble (Timofte et al., Seven ways to improve example-based SR, CVPR 2016; "+" in EDSR's tables)."""

from dataclasses import replace

import torch
from torch import Tensor

from realsr.inference.model import SRModel


def ensemble(model: SRModel) -> SRModel:
    """Return the mean of a model over the eight flips and rotations of its input, each undone.

    One after the other: eight times the time, and the memory of one more result.
    """

    def run(lr: Tensor) -> Tensor:
        total: Tensor | None = None
        for flipped in (False, True):
            for turns in range(4):
                turned = torch.rot90(lr.flip(-1) if flipped else lr, turns, (-2, -1)).contiguous()
                back = torch.rot90(model.run(turned), -turns, (-2, -1))
                back = back.flip(-1) if flipped else back
                total = back.clone() if total is None else total.add_(back)
        assert total is not None
        return total.div_(8)

    return replace(model, run=run)
