"""The input of a loss term, and its interface."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn


@dataclass(frozen=True)
class StepTensors:
    """A step's images (N,3,h,w), float32 in 0..1, and the discriminator's logits.

    Only `sr` and `fake_logits` have a gradient. sr_ema: SR of the averaged generator. Logits: one
    or more per image. `sr_ema` and the logits are None if no term needs them.

    Raises ValueError if SR and HR have different shapes, which torch would broadcast with a warning.
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
                f"sr is {tuple(self.sr.shape)} and hr {tuple(self.hr.shape)}: expected equal shapes"
            )


class LossTerm(nn.Module):
    """A term of the generator's loss: an unweighted scalar whose gradient reaches SR.

    needs: which of `sr_ema`, `real_logits` and `fake_logits` it reads. If a term needs logits, a
    discriminator is trained. min_crop: smallest side of an HR crop. Both are class attributes,
    since they are checked before the term is built. networks: attributes of the term that are
    networks of HR images, which training compiles on a GPU. compares_features: whether it compares the
    features of a classifier: a training from random weights then logs the advice to set `init`.

    A term that needs logits may have a method `discriminator_loss(real_logits, fake_logits)`: the loss
    of the discriminator, a scalar. Without it, the discriminator's loss is that of `ragan`.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    min_crop: ClassVar[int] = 1
    networks: ClassVar[tuple[str, ...]] = ()
    compares_features: ClassVar[bool] = False

    def forward(self, x: StepTensors) -> Tensor:
        """Return the term."""
        raise NotImplementedError
