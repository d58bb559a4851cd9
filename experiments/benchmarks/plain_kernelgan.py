"""KernelGAN as in its paper, one photo at a time: modules, autograd and optimisers of PyTorch.

This is the reference for the speed and the results of `realsr.kernels.kernelgan_training`. It is
not artificially slow: the fake crop is computed once per iteration, the kernel is composed
efficiently, and no value is read back from the device before the end.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from realsr.kernels.kernelgan_training import KernelGANConfig, Photo

GENERATOR_SIZES = (7, 5, 3, 1, 1, 1)
CHANNELS = 64
SIZE = 13


def make_generator() -> nn.Sequential:
    """G: (3, 1, 64, 64), the colour channels as a batch, -> (3, 1, 26, 26)."""
    channels = [1] + [CHANNELS] * 5 + [1]
    layers = [
        nn.Conv2d(channels[i], channels[i + 1], size, stride=2 if i == 5 else 1, bias=False)
        for i, size in enumerate(GENERATOR_SIZES)
    ]
    for layer in layers:
        nn.init.xavier_normal_(layer.weight, gain=0.1)
    return nn.Sequential(*layers)


def make_discriminator() -> nn.Sequential:
    """D: (1, 3, 26, 26) -> (1, 1, 20, 20), near 1 for patches of the photo."""
    layers: list[nn.Module] = [_convolution(3, CHANNELS, 7)]
    for _ in range(5):
        norm = nn.BatchNorm2d(CHANNELS, track_running_stats=False)
        nn.init.normal_(norm.weight, 1, 0.02)
        layers += [_convolution(CHANNELS, CHANNELS, 1), norm, nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, _convolution(CHANNELS, 1, 1), nn.Sigmoid())


def _convolution(inputs: int, outputs: int, size: int) -> nn.Module:
    layer = nn.Conv2d(inputs, outputs, size)
    nn.init.xavier_normal_(layer.weight, gain=0.1)
    nn.init.zeros_(layer.bias)
    return spectral_norm(layer)


class PlainKernelGAN:
    """The two networks of a photo and their schedules."""

    def __init__(
        self, photo: Photo, config: KernelGANConfig, seed: int, device: torch.device | str = "cpu"
    ):
        torch.manual_seed(seed)
        self._photo = photo
        self._pixels = photo.pixels.to(device) / 127.5 - 1
        self.generator = make_generator().to(device)
        self.discriminator = make_discriminator().to(device)
        self._optimisers = [
            torch.optim.Adam(net.parameters(), lr=config.learning_rate, betas=(0.5, 0.999))
            for net in (self.generator, self.discriminator)
        ]
        self._schedules = [
            torch.optim.lr_scheduler.StepLR(optimiser, 750, 0.1) for optimiser in self._optimisers
        ]
        offsets = torch.arange(SIZE, device=device) - SIZE // 2
        gaussian = torch.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 13.0**2))
        self._boundary = 30 * (1 - gaussian / gaussian.max())
        self._boundary[2:-2, 2:-2] = 0
        self._grid = torch.arange(float(SIZE), device=device)
        self._bicubic_weight = 5.0
        self._streak = torch.zeros((), device=device)
        self._decaying = torch.zeros((), dtype=torch.bool, device=device)
        self._iteration = 0

    def kernel(self) -> Tensor:
        """Return G's kernel (13, 13): the weight of each input pixel in an output sample."""
        kernel = torch.ones(1, 1, 1, 1, device=self._grid.device)
        for layer in reversed(self.generator):
            kernel = F.conv_transpose2d(kernel, layer.weight)
        return kernel[0, 0]

    def run(self, start: int, count: int) -> None:
        """Train for `count` iterations on the photo's crops from `start` on."""
        corners = (
            crops[start : start + count].tolist()
            for crops in (self._photo.g_crops, self._photo.d_crops)
        )
        for (g_top, g_left), (d_top, d_left) in zip(*corners, strict=True):
            g_crop = self._pixels[:, g_top : g_top + 64, g_left : g_left + 64]
            d_crop = self._pixels[:, d_top : d_top + 26, d_left : d_left + 26]
            self.step(g_crop, d_crop, torch.randn(2, *d_crop.shape, device=d_crop.device))

    def step(self, g_crop: Tensor, d_crop: Tensor, noise: Tensor) -> None:
        """Train both networks on one crop each: (3, 64, 64), (3, 26, 26) in -1..1; noise: (2, 3, 26, 26)."""
        g_optimiser, d_optimiser = self._optimisers
        fake = self.generator(g_crop[:, None]).transpose(0, 1)  # (1, 3, 26, 26)
        half = F.interpolate(g_crop[None], scale_factor=0.5, mode="bicubic", antialias=True)[
            :, :, 3:-3, 3:-3
        ]
        bicubic_loss = F.mse_loss(fake, half)
        self.discriminator.requires_grad_(False)
        verdict = self.discriminator(fake)
        g_loss = F.l1_loss(verdict, torch.ones_like(verdict)) + self._bicubic_weight * bicubic_loss
        g_optimiser.zero_grad()
        (g_loss + self._kernel_loss(self.kernel())).backward()
        g_optimiser.step()

        self.discriminator.requires_grad_(True)
        real = self.discriminator(d_crop[None] + 2 / 255 * noise[:1])
        fake = self.discriminator(fake.detach() + 1 / 255 * noise[1:])
        d_loss = (
            F.l1_loss(real, torch.ones_like(real)) + F.l1_loss(fake, torch.zeros_like(fake))
        ) / 2
        d_optimiser.zero_grad()
        d_loss.backward()
        d_optimiser.step()
        self._advance(bicubic_loss.detach())

    def _kernel_loss(self, kernel: Tensor) -> Tensor:
        total = kernel.sum()
        loss = 0.5 * (1 - total).abs() + 0.5 * (kernel * self._boundary).abs().mean()
        if self._bicubic_weight < 5e-3:
            rows, columns = (kernel.sum(axis) @ self._grid / total for axis in (1, 0))
            centre = ((rows - 6.5) ** 2 + (columns - 6.5) ** 2) / 2
            loss = loss + centre + 5 * kernel.abs().clamp_min(1e-10).pow(0.2).mean()
        return loss

    def _advance(self, bicubic_loss: Tensor) -> None:
        self._streak = (self._streak + 1) * (bicubic_loss < 0.4)
        self._decaying |= self._streak >= 3
        self._iteration += 1
        if self._iteration % 200 == 0 and self._decaying:
            self._bicubic_weight = max(self._bicubic_weight / 100, 5e-6)
        for schedule in self._schedules:
            schedule.step()
