"""The input of a loss term, and its interface."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn


@dataclass(frozen=True)
class StepTensors:
    """A step's images, (N,3,h,w), 0..1, float32, and the discriminator's logits; only `sr` and `fake_logits` have a
    gradient.

    sr_ema: the averaged generator's SR; logits: one or more for each image. None where no term needs them.

    Raises ValueError if SR and HR have different shapes, which torch would broadcast with no more than a warning.
    """

    lr: Tensor
    hr: Tensor
    sr: Tensor
    sr_ema: Tensor | None = None
    real_logits: Tensor | None = None
    fake_logits: Tensor | None = None

    def __post_init__(self) -> None:
        """Check the shapes."""
        if self.sr.shape != self.hr.shape:
            raise ValueError(
                f"sr is {tuple(self.sr.shape)} and hr {tuple(self.hr.shape)}: the shapes must be the same"
            )


class LossTerm(nn.Module):
    """A term of the generator's loss: StepTensors -> a scalar, not weighted, whose gradient reaches SR.

    needs: which of `sr_ema`, `real_logits` and `fake_logits` it reads: a discriminator is trained where a term needs
    logits. min_crop: side of the smallest HR crop that it can be computed on. Both are class attributes, since they are
    checked before any work.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    min_crop: ClassVar[int] = 1

    def forward(self, x: StepTensors) -> Tensor:
        """Return the term."""
        raise NotImplementedError
