"""The relativistic average GAN: the generator's term and the discriminator's loss."""

import torch
import torch.nn.functional as F
from torch import Tensor

from realsr.training.distributed import global_mean
from realsr.training.loss_terms.term import LossTerm, StepTensors


class RaGAN(LossTerm):
    """The generator's relativistic average GAN loss, see `generator_ragan_loss`."""

    needs = frozenset({"real_logits", "fake_logits"})

    def forward(self, x: StepTensors) -> Tensor:
        """Return the loss of the logits of the frozen discriminator."""
        assert x.real_logits is not None
        assert x.fake_logits is not None
        return generator_ragan_loss(x.real_logits, x.fake_logits)

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return `discriminator_ragan_loss`."""
        return discriminator_ragan_loss(real_logits, fake_logits)


def generator_ragan_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return the generator's relativistic average GAN loss, a scalar.

    Jolicoeur-Martineau 2018; ESRGAN, equation 2; C are the discriminator's logits:
        L_G = ( -E_real[log(1 - D(real, fake))] - E_fake[log D(fake, real)] ) / 2
        D(a, b) = sigmoid(C(a) - E[C(b)])
    E[C] is the mean over all logits (images and positions) of the batch in all processes. The outer
    expectations are over this process's logits: average the results over the processes. If all
    logits are equal, the loss is log 2.

    Args:
        real_logits: C(real), any shape, detached.
        fake_logits: C(G(lr)), any shape, with gradient.
    """
    return _relativistic_loss(real_logits, fake_logits, real_label=0.0)


def discriminator_ragan_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return the discriminator's relativistic average GAN loss, a scalar.

    Jolicoeur-Martineau 2018; ESRGAN, equation 1; in the notation of `generator_ragan_loss`:
        L_D = ( -E_real[log D(real, fake)] - E_fake[log(1 - D(fake, real))] ) / 2

    Args:
        real_logits: C(real), any shape.
        fake_logits: C(G(lr)), any shape, of an SR image detached from the generator.
    """
    return _relativistic_loss(real_logits, fake_logits, real_label=1.0)


def _relativistic_loss(real_logits: Tensor, fake_logits: Tensor, real_label: float) -> Tensor:
    return (
        cross_entropy(real_logits - global_mean(fake_logits), real_label)
        + cross_entropy(fake_logits - global_mean(real_logits), 1 - real_label)
    ) / 2


def cross_entropy(logits: Tensor, label: float) -> Tensor:
    """Return the binary cross entropy of logits and one label, a scalar."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))
