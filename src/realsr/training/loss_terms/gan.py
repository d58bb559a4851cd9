"""The standard GAN: the generator's term and the discriminator's loss."""

from torch import Tensor

from realsr.training.loss_terms.ragan import cross_entropy
from realsr.training.loss_terms.term import LossTerm, StepTensors


class GAN(LossTerm):
    """The non-saturating loss of the generator (Goodfellow et al. 2014): -E_fake[log sigmoid(C(G(lr)))].

    C are the discriminator's logits; the mean is over images and positions.
    """

    needs = frozenset({"fake_logits"})

    def forward(self, x: StepTensors) -> Tensor:
        """Return the loss; the logits are those of the frozen discriminator."""
        assert x.fake_logits is not None
        return cross_entropy(x.fake_logits, 1.0)

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return -E_real[log sigmoid(C)] - E_fake[log(1 - sigmoid(C))], a scalar."""
        return cross_entropy(real_logits, 1.0) + cross_entropy(fake_logits, 0.0)
