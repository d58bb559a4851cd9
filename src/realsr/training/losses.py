"""The terms of the training loss: pixels, perception, and the relativistic average GAN."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from realsr.core.ranges import Range
from realsr.networks import VGGFeatures
from realsr.training.distributed import global_mean


@dataclass
class PerceptualConfig:
    """Weight of the perceptual loss, and a file of VGG19 weights (None: torchvision's download)."""

    weight: Annotated[float, Range(0)] = 1.0
    weights: Path | None = None


@dataclass
class LossConfig:
    """Weights of the generator's loss: pixel L1 + perceptual + gan. 0 leaves a term out."""

    pixel: Annotated[float, Range(0)] = 0.01
    perceptual: PerceptualConfig = field(default_factory=PerceptualConfig)
    gan: Annotated[float, Range(0)] = 0.005


def pixel_loss(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean |sr - hr|, a scalar. Both (N,3,H,W), 0..1.

    Raises:
        ValueError: if the shapes differ.
    """
    _check_same_shape(sr, hr)
    return F.l1_loss(sr, hr)


class PerceptualLoss(nn.Module):
    """Mean |phi(sr) - phi(hr)| with phi VGG19's conv5_4 before the ReLU (ESRGAN, section 3.3).

    Args:
        weights: file of VGG19 weights; None: torchvision's download (see `VGGFeatures`).

    Raises:
        WeightsError: if the weights cannot be had, read or fitted to VGG19.
    """

    def __init__(self, weights: Path | None = None) -> None:
        super().__init__()
        self.features: nn.Module = VGGFeatures(weights)

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        """Images (N,3,H,W), 0..1, at least 16x16 -> a scalar; the gradient reaches sr only.

        Raises:
            ValueError: if the shapes differ.
        """
        _check_same_shape(sr, hr)
        with torch.no_grad():
            wanted = self.features(hr).float()
        return F.l1_loss(self.features(sr).float(), wanted)


def generator_ragan_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """The generator's relativistic average GAN loss, a scalar.

    (Jolicoeur-Martineau 2018; ESRGAN, equation 2), C being the discriminator's logits:
        L_G = ( -E_real[log(1 - D(real, fake))] - E_fake[log D(fake, real)] ) / 2
        D(a, b) = sigmoid(C(a) - E[C(b)])
    E[C] is one mean over all logits (images and positions) of the batch, those of the other processes that train
    included. The outer expectations are over the logits given: what processes compute is to be averaged. The half
    makes it the mean of the two terms: log 2 where the discriminator knows nothing.

    Args:
        real_logits: C(real), any shape, detached by the caller: the generator has no part in it, and a
            gradient through it would only burden the frozen discriminator.
        fake_logits: C(G(lr)), any shape, with its gradient.
    """
    return (_bce(real_logits - global_mean(fake_logits), 0.0) + _bce(fake_logits - global_mean(real_logits), 1.0)) / 2


def discriminator_ragan_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """The discriminator's relativistic average GAN loss, a scalar.

    (Jolicoeur-Martineau 2018; ESRGAN, equation 1), in the notation of `generator_ragan_loss`:
        L_D = ( -E_real[log D(real, fake)] - E_fake[log(1 - D(fake, real))] ) / 2

    Args:
        real_logits: C(real), any shape.
        fake_logits: C(G(lr)), any shape, of an image that the caller has detached from the generator.
    """
    return (_bce(real_logits - global_mean(fake_logits), 1.0) + _bce(fake_logits - global_mean(real_logits), 0.0)) / 2


class GeneratorLoss(nn.Module):
    """The generator's loss: weighted pixel, perceptual and relativistic GAN terms; weight 0 leaves a term out."""

    def __init__(self, config: LossConfig):
        super().__init__()
        self.config = config
        self.perceptual = PerceptualLoss(config.perceptual.weights) if config.perceptual.weight > 0 else None

    def forward(
        self, sr: Tensor, hr: Tensor, real_logits: Tensor | None, fake_logits: Tensor | None
    ) -> dict[str, Tensor]:
        """Return the terms, unweighted and detached, and their weighted sum `generator`; all float32."""
        weighted = {"pixel": (self.config.pixel, pixel_loss(sr, hr))}
        if self.perceptual is not None:
            weighted["perceptual"] = (self.config.perceptual.weight, self.perceptual(sr, hr))
        if real_logits is not None and fake_logits is not None:
            weighted["gan"] = (self.config.gan, generator_ragan_loss(real_logits.detach(), fake_logits))
        total = torch.stack([weight * term for weight, term in weighted.values()]).sum()
        return {name: term.detach() for name, (_, term) in weighted.items()} | {"generator": total}


def _bce(logits: Tensor, label: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


def _check_same_shape(sr: Tensor, hr: Tensor) -> None:
    # l1_loss would broadcast with no more than a warning
    if sr.shape != hr.shape:
        raise ValueError(f"sr is {tuple(sr.shape)} and hr {tuple(hr.shape)}: the shapes must be the same")
