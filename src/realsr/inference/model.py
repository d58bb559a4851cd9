"""What a network looks like to the code that enlarges photos."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SRModel:
    """A network that enlarges.

    Attributes:
        scale: how many times a side becomes longer.
        device: where `run` wants its input and leaves its output.
        run: (N, 3, h, w) float32, 0..1 -> (N, 3, scale * h, scale * w) float32, not clamped.
    """

    scale: int
    device: torch.device
    run: Callable[[Tensor], Tensor]
