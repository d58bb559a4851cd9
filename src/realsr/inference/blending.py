"""How neighbouring tiles pass into each other without a seam."""

import math

import torch
from torch import Tensor


def blend_weights(size: int, before: int, after: int, scale: int) -> Tensor:
    """Return the weights of a tile's scale * size result pixels along one side, in float32.

    before, after: LR pixels shared with the neighbour on that side; 0 at the photo's border, where the weight is 1.
    The weights of neighbours add up to 1. On either side three eighths of the shared pixels are cut off, since there
    the network saw too little of its surroundings; in the quarter between them the weight rises smoothly.
    """
    weights = torch.ones(scale * size)
    if before:
        weights[: scale * before] = _rise(before, scale)
    if after:
        weights[scale * (size - after) :] *= 1 - _rise(after, scale)
    return weights


def _rise(overlap: int, scale: int) -> Tensor:
    """From 0 to 1 over an overlap: half a period of a cosine in its middle quarter."""
    cut = 3 * overlap // 8
    inner = scale * (overlap - 2 * cut)
    place = (torch.arange(scale * overlap) + 0.5 - scale * cut) / inner
    return 0.5 - 0.5 * torch.cos(math.pi * place.clamp(0, 1))
