"""A plain implementation of RealSR's training step, the reference of `training.py`.

It follows ESRGAN's published training, on which RealSR is based: the generator concatenates before
each convolution, and autograd keeps all activations; float32 without TF32; the default memory
layout; PyTorch's Adam with its default implementation (`foreach` on a GPU); the discriminator
processes the real images in both steps. Modules that are plain sequences of PyTorch's layers
(VGG19, the patch discriminator) and the losses are those of `realsr`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from realsr.core.devices import allow_tf32
from realsr.networks.patchgan import PatchGAN
from realsr.training.generator_loss import LossValues
from realsr.training.loss_terms.perceptual import VGGFeatures
from realsr.training.loss_terms.ragan import discriminator_ragan_loss, generator_ragan_loss


class PlainDense(nn.Module):
    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        for k in range(1, 6):
            outputs = growth if k < 5 else features
            self.add_module(
                f"conv{k}", nn.Conv2d(features + (k - 1) * growth, outputs, 3, padding=1)
            )
        self.lrelu = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.lrelu(self.conv1(x))
        x2 = self.lrelu(self.conv2(torch.cat((x, x1), 1)))
        x3 = self.lrelu(self.conv3(torch.cat((x, x1, x2), 1)))
        x4 = self.lrelu(self.conv4(torch.cat((x, x1, x2, x3), 1)))
        x5 = self.conv5(torch.cat((x, x1, x2, x3, x4), 1))
        return x5 * 0.2 + x


class PlainBlock(nn.Module):
    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.RDB1 = PlainDense(features, growth)
        self.RDB2 = PlainDense(features, growth)
        self.RDB3 = PlainDense(features, growth)

    def forward(self, x: Tensor) -> Tensor:
        return self.RDB3(self.RDB2(self.RDB1(x))) * 0.2 + x


class PlainRRDB(nn.Module):
    """The generator at scale 4, with the parameter names of `realsr`."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        features = config["features"]
        self.conv_first = nn.Conv2d(3, features, 3, padding=1)
        self.RRDB_trunk = nn.Sequential(
            *(PlainBlock(features, config["growth"]) for _ in range(config["blocks"]))
        )
        self.trunk_conv = nn.Conv2d(features, features, 3, padding=1)
        self.upconv1 = nn.Conv2d(features, features, 3, padding=1)
        self.upconv2 = nn.Conv2d(features, features, 3, padding=1)
        self.HRconv = nn.Conv2d(features, features, 3, padding=1)
        self.conv_last = nn.Conv2d(features, 3, 3, padding=1)
        self.lrelu = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        first = self.conv_first(x)
        y = first + self.trunk_conv(self.RRDB_trunk(first))
        y = self.lrelu(self.upconv1(F.interpolate(y, scale_factor=2, mode="nearest")))
        y = self.lrelu(self.upconv2(F.interpolate(y, scale_factor=2, mode="nearest")))
        return self.conv_last(self.lrelu(self.HRconv(y)))


class PlainTraining:
    """Networks, optimisers and step. vgg: file of VGG19 weights; None: no perceptual loss."""

    def __init__(
        self,
        generator: dict[str, Any],
        discriminator: PatchGAN,
        loss: LossValues,
        vgg: Path | None,
        device: str,
    ) -> None:
        self.loss = loss
        self.generator = PlainRRDB(generator).to(device)
        self.discriminator = discriminator.to(device)
        self.vgg = None if vgg is None else VGGFeatures("vgg19", vgg).to(device)
        self.optimisers = [
            torch.optim.Adam(net.parameters(), lr=1e-4)
            for net in (self.generator, self.discriminator)
        ]

    def step(self, lr: Tensor, hr: Tensor) -> dict[str, Tensor]:
        """LR and HR (N,3,h,w), 0..1 -> the terms of the losses, detached."""
        with full_float32():
            self.discriminator.requires_grad_(False)
            self.optimisers[0].zero_grad()
            sr = self.generator(lr)
            terms = {"pixel": F.l1_loss(sr, hr)}
            total = self.loss["pixel"]["weight"] * terms["pixel"]
            if self.vgg is not None:
                terms["perceptual"] = F.l1_loss(self.vgg(sr), self.vgg(hr).detach())
                total = total + self.loss["perceptual"]["weight"] * terms["perceptual"]
            terms["gan"] = generator_ragan_loss(
                self.discriminator(hr).detach(), self.discriminator(sr)
            )
            total = terms["generator"] = total + self.loss["gan"]["weight"] * terms["gan"]
            total.backward()
            self.optimisers[0].step()

            self.discriminator.requires_grad_(True)
            self.optimisers[1].zero_grad()
            terms["discriminator"] = discriminator_ragan_loss(
                self.discriminator(hr), self.discriminator(sr.detach())
            )
            terms["discriminator"].backward()
            self.optimisers[1].step()
            return {name: term.detach() for name, term in terms.items()}


@contextmanager
def full_float32() -> Iterator[None]:
    """Disable TF32 on the GPU, which other code in the process may have enabled."""
    before = torch.backends.cudnn.allow_tf32
    allow_tf32(False)
    yield
    allow_tf32(before)
