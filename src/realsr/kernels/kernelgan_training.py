"""How KernelGAN (Bell-Kligler et al., NeurIPS 2019) is trained, composed and batched.

One small GAN a photo, trained on that photo alone: G shrinks the photo by 2, D cannot tell patches of the small
photo from patches of the photo. G is linear, so it is one 13x13 kernel:

    G(x) = (x correlated with k) at every second sample,   k = w1 * w2 * ... * w6   (full convolutions)

Composing k from G's layers costs a thousandth of running them on a crop, and by the chain rule the gradients are
the same. B photos are B independent problems of one shape: every tensor here has them on its leading axis.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from realsr.core.seeding import derive_seed, numpy_generator, torch_generator
from realsr.core.workers import split_work
from realsr.imaging import resize
from realsr.kernels.cuda_graph import capture
from realsr.kernels.kernelgan_crops import CropSource, draw_crops, interest_map
from realsr.kernels.kernelgan_loss import DECAY_INTERVAL, KernelLoss
from realsr.kernels.kernelgan_networks import (
    D_CROP,
    G_CROP,
    KERNEL_SIZE,
    BatchedDiscriminator,
    ComposedGenerator,
    CropRows,
)

CHUNK = 50  # iterations whose crops and noise are drawn at once
LAST = 100  # iterations over which the final losses are averaged


@dataclass(frozen=True)
class KernelGANConfig:
    """How a GAN is trained; frame: pixels left out at the border, 10 for photos that were degraded by a program."""

    iterations: int
    learning_rate: float
    frame: int


@dataclass
class Photo:
    """A photo with what is drawn from it in advance.

    pixels: (3, H, W) uint8; g_crops, d_crops: (iterations, 2) corners of 64x64 and 26x26 crops.
    """

    pixels: Tensor
    g_crops: np.ndarray
    d_crops: np.ndarray


@dataclass
class Estimates:
    """What training gives for B photos: raw kernels (B, 13, 13) float64, and each loss (B,) at the end, by name."""

    kernels: np.ndarray
    losses: dict[str, np.ndarray]


def check_size(pixels: Tensor, config: KernelGANConfig) -> None:
    """Raise ValueError where a photo (3, H, W) has no room for a 64x64 crop and the frame around it."""
    height, width = pixels.shape[1:]
    needed = G_CROP + 2 * (config.frame + 1)
    if min(height, width) < needed:
        raise ValueError(
            f"{width}x{height} pixels are too few for kernel estimation, which needs {needed} on each side: "
            "take a larger photo"
        )


def prepare_photo(image_uint8: np.ndarray, config: KernelGANConfig, seeds: Sequence[int]) -> list[Photo]:
    """Draw a photo's crops, once for each seed; the pixels are shared. image_uint8: (H, W, 3).

    Raises ValueError where the photo has no room for a 64x64 crop and the frame around it.
    """
    pixels = torch.from_numpy(np.require(image_uint8, requirements="W")).permute(2, 0, 1)
    check_size(pixels, config)
    height, width = (size // 2 * 2 for size in pixels.shape[1:])
    pixels = pixels[:, :height, :width].contiguous()
    luma = torch.tensor([0.299, 0.587, 0.114])
    gray = sum(weight * channel for weight, channel in zip(luma, pixels, strict=True)) / 255
    half = resize(gray[None], factor=0.5)[0]
    maps = (interest_map(half.numpy(), G_CROP // 2), G_CROP), (interest_map(gray.numpy(), D_CROP), D_CROP)
    photos = []
    for seed in seeds:
        rng = numpy_generator(seed, "crops")
        crops = [
            draw_crops(interest, (height, width), crop, config.iterations, config.frame, rng) for interest, crop in maps
        ]
        photos.append(Photo(pixels, *crops))
    return photos


def train_kernelgans(
    photos: Sequence[Photo],
    config: KernelGANConfig,
    seeds: Sequence[int],
    progress: Callable[[int], None] = lambda steps: None,
    device: torch.device | str = "cpu",
) -> Estimates:
    """Estimate the raw x2 kernels of B photos, whose sizes may differ.

    A photo's kernel depends on its pixels, its seed and the config, and not on the photos beside it; on a CPU to the
    last bit, and not on the number of threads either. `progress` is called with the number of iterations, summed over
    photos, since the last call. `kernels.postprocess` turns a raw kernel into the one to use.
    """
    device = torch.device(device)
    if device.type == "cpu":
        parts = split_work(partial(_train, config=config, device=device), [photos, seeds], progress)
    else:
        parts = [_train(photos, seeds, config=config, device=device, progress=progress)]
    names = parts[0].losses
    return Estimates(
        np.concatenate([part.kernels for part in parts]),
        {name: np.concatenate([part.losses[name] for part in parts]) for name in names},
    )


def _train(
    photos: Sequence[Photo],
    seeds: Sequence[int],
    *,
    config: KernelGANConfig,
    device: torch.device,
    progress: Callable[[int], None],
) -> Estimates:
    gans = _GANs(photos, config, seeds, device)
    step = capture(gans.step, device)
    sums: dict[str, Tensor] = {}
    for start in range(0, config.iterations, CHUNK):
        count = min(CHUNK, config.iterations - start)
        for offset, inputs in enumerate(zip(*gans.draw(start, count), strict=True)):
            losses = step(*inputs)
            gans.advance(iteration := start + offset + 1)
            if iteration > config.iterations - LAST:
                sums = {name: sums.get(name, 0) + loss for name, loss in losses.items()}
        progress(count * len(photos))
    kernels = gans.generator.kernel().detach().double().cpu().numpy()
    shares = min(LAST, config.iterations)
    return Estimates(kernels, {name: (total / shares).double().cpu().numpy() for name, total in sums.items()})


class _GANs:
    """The GANs of B photos, and one step of them all."""

    def __init__(self, photos: Sequence[Photo], config: KernelGANConfig, seeds: Sequence[int], device: torch.device):
        weights = [torch_generator(seed, "weights") for seed in seeds]
        self.generator = ComposedGenerator(weights, device)
        self.discriminator = BatchedDiscriminator(weights, device)
        self._kernel_loss = KernelLoss(len(photos), device)
        self._rate = torch.tensor(config.learning_rate, device=device)
        self._optimisers = [
            torch.optim.Adam(
                net.parameters, lr=self._rate, betas=(0.5, 0.999), fused=True, capturable=device.type == "cuda"
            )
            for net in (self.generator, self.discriminator)
        ]
        self._noise = [torch_generator(derive_seed(seed, "noise"), device=device) for seed in seeds]
        self._g_source = CropSource([(photo.pixels, photo.g_crops) for photo in photos], G_CROP, device)
        self._d_source = CropSource([(photo.pixels, photo.d_crops) for photo in photos], D_CROP, device)
        self._bicubic = bicubic_rows().to(device)

    def draw(self, start: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the crops of G and of D, uint8 (count, B, 3, size, size), and D's noise (count, B, 2, 3, 26, 26)."""
        shape = (count, 2, 3, D_CROP, D_CROP)
        noise = [torch.randn(shape, generator=generator, device=generator.device) for generator in self._noise]
        return (
            self._g_source.cut(start, count),
            self._d_source.cut(start, count),
            torch.stack(noise, dim=1),
        )

    def step(self, g_crops: Tensor, d_crops: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """Train both networks on one crop each; return the losses (B,)."""
        kernel = self.generator.kernel()
        with torch.no_grad():
            crops = _to_signed(g_crops)
            rows = CropRows(crops)
            fake = rows.shrink(kernel)
            from_bicubic = fake - self._bicubic @ crops @ self._bicubic.T
            bicubic_loss = from_bicubic.square().mean(dim=(1, 2, 3))
            noise = noise / 255
            verdicts = self.discriminator.judge(fake, _to_signed(d_crops) + 2 * noise[:, 0], fake + noise[:, 1])
            weight = self._kernel_loss.bicubic_weight * 2 / fake[0].numel()
            slope = rows.kernel_gradient(verdicts.fake_gradient + weight[:, None, None, None] * from_bicubic)
        # By the chain rule: `slope` is the gradient by the kernel of all that comes after it. The photos' losses can
        # be summed, as no parameter is shared.
        loss = self._kernel_loss(kernel).sum() + (kernel * slope).sum()
        _step(self._optimisers[0], self.generator.parameters, torch.autograd.grad(loss, self.generator.parameters))
        _step(self._optimisers[1], self.discriminator.parameters, verdicts.gradients)
        self._kernel_loss.watch(bicubic_loss)
        return {
            "generator": verdicts.generator_loss,
            "discriminator": verdicts.discriminator_loss,
            "bicubic": bicubic_loss,
        }

    def advance(self, iteration: int) -> None:
        """Move the schedules on after an iteration (counted from 1)."""
        if iteration % DECAY_INTERVAL == 0:
            self._kernel_loss.decay()
        if iteration % 750 == 0:
            self._rate.mul_(0.1)


def bicubic_rows() -> Tensor:
    """Return bicubic /2 of a crop's rows as a matrix (26, 64), for the samples where G's lie."""
    rows = resize(torch.eye(G_CROP, dtype=torch.float64), size=(G_CROP // 2, G_CROP))
    margin = KERNEL_SIZE // 4  # samples of the half-size crop that G's valid output lacks on each side
    return rows[margin : margin + D_CROP].float()


def _to_signed(pixels: Tensor) -> Tensor:
    return pixels / 127.5 - 1


def _step(optimiser: torch.optim.Optimizer, parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    optimiser.step()
