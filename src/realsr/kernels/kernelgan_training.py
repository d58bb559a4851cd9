"""Batched training of KernelGAN (Bell-Kligler et al., NeurIPS 2019).

One small GAN is trained per photo, on that photo alone. G downscales the photo by 2; D classifies
patches as real (from the photo) or fake (from G's output). G is linear, so it equals one 13x13
kernel:

    G(x) = (x correlated with k) at every second sample
    k = w1 * w2 * ... * w6   (full convolutions)

Composing k from G's layers costs a thousandth of running them on a crop, and the gradients are the
same by the chain rule. B photos are B independent problems of the same shape, so they share the
leading axis of every tensor.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from realsr.core.seeding import derive_seed, torch_generator
from realsr.core.workers import split_work
from realsr.imaging import resize
from realsr.kernels.kernelgan_networks import (
    D_CROP,
    G_CROP,
    KERNEL_SIZE,
    BatchedDiscriminator,
    ComposedGenerator,
    CropRows,
)

logger = logging.getLogger("realsr")

CHUNK = 50  # iterations whose crops and noise are drawn at once
LOSS_WINDOW = 100  # final iterations over which the losses are averaged
CENTRE = KERNEL_SIZE // 2 + 0.5
BICUBIC_WEIGHT, BICUBIC_WEIGHT_MIN, BICUBIC_DECAY = 5.0, 5e-6, 100.0
DECAY_INTERVAL = 200
MIN_START_SUM = 0.5  # of a kernel that has left its start near 0
# Eager steps before the capture of a CUDA graph: optimisers and libraries allocate their buffers.
WARM_UP = 3


@dataclass(frozen=True)
class KernelGANConfig:
    """Training of one GAN. The paper averages no kernels and uses the GAN loss from the start.

    border: pixels ignored at the border; 10 for synthetically degraded photos.
    average_from: the result is the mean of the kernels after this iteration; None: the last kernel.
    gan_after_start: G is trained without the GAN loss, and the schedule waits, until the sum of its
    kernel exceeds 0.5.
    """

    iterations: int
    learning_rate: float
    border: int
    average_from: int | None
    gan_after_start: bool


@dataclass
class Photo:
    """A photo's pixels (3, H, W) uint8, and the corners (iterations, 2) of G's and D's crops."""

    pixels: Tensor
    g_crops: np.ndarray
    d_crops: np.ndarray


@dataclass
class Estimates:
    """Raw kernels (B, 13, 13) float64 of B photos and their final losses (B,) by name."""

    kernels: np.ndarray
    losses: dict[str, np.ndarray]


def train_kernelgans(
    photos: Sequence[Photo],
    config: KernelGANConfig,
    seeds: Sequence[int],
    progress: Callable[[int], None] = lambda steps: None,
    device: torch.device | str = "cpu",
) -> Estimates:
    """Estimate the raw x2 kernels of B photos, whose sizes may differ.

    A photo's kernel depends only on its pixels, its seed and the config. On a CPU it is bitwise
    independent of the other photos of the batch and of the number of threads. `progress` is called
    with the number of iterations since the last call, summed over photos.
    """
    device = torch.device(device)
    train = partial(_train, config=config, device=device)
    if device.type != "cpu":
        return train(photos, seeds, progress=progress)
    parts = split_work(train, [photos, seeds], progress)
    losses = {
        name: np.concatenate([part.losses[name] for part in parts]) for name in parts[0].losses
    }
    return Estimates(np.concatenate([part.kernels for part in parts]), losses)


def _train(
    photos: Sequence[Photo],
    seeds: Sequence[int],
    *,
    config: KernelGANConfig,
    device: torch.device,
    progress: Callable[[int], None],
) -> Estimates:
    gans = _GANs(photos, config, seeds, device)
    step = GraphStep(gans.step, device) if device.type == "cuda" else gans.step
    sums: dict[str, Tensor] = {}
    for start in range(0, config.iterations, CHUNK):
        count = min(CHUNK, config.iterations - start)
        for offset, inputs in enumerate(zip(*gans.draw(start, count), strict=True)):
            losses = step(*inputs)
            gans.advance(iteration := start + offset + 1)
            if iteration > config.iterations - LOSS_WINDOW:
                sums = {name: sums.get(name, 0) + loss for name, loss in losses.items()}
        progress(count * len(photos))
    kernels = gans.kernels().double().cpu().numpy()
    count = min(LOSS_WINDOW, config.iterations)
    means = {name: (total / count).double().cpu().numpy() for name, total in sums.items()}
    return Estimates(kernels, means)


class _GANs:
    """The GANs of B photos and their joint training step."""

    def __init__(
        self,
        photos: Sequence[Photo],
        config: KernelGANConfig,
        seeds: Sequence[int],
        device: torch.device,
    ):
        weights = [torch_generator(seed, "weights") for seed in seeds]
        self.generator = ComposedGenerator(weights, device)
        self.discriminator = BatchedDiscriminator(weights, device)
        self._kernel_loss = KernelLoss(len(photos), device, config.gan_after_start)
        self._average_from = config.average_from
        self._is_averaging = torch.zeros((), device=device)
        self._kernel_sum = torch.zeros(len(photos), KERNEL_SIZE, KERNEL_SIZE, device=device)
        self._kernel_count = torch.zeros((), device=device)
        self._rate = torch.tensor(config.learning_rate, device=device)
        self._optimisers = [
            torch.optim.Adam(
                net.parameters,
                lr=self._rate,
                betas=(0.5, 0.999),
                fused=True,
                capturable=device.type == "cuda",
            )
            for net in (self.generator, self.discriminator)
        ]
        self._noise = [torch_generator(derive_seed(seed, "noise"), device=device) for seed in seeds]
        self._photos = [
            (
                photo.pixels.to(device),
                *(torch.from_numpy(c).to(device) for c in (photo.g_crops, photo.d_crops)),
            )
            for photo in photos
        ]
        self._bicubic = bicubic_rows().to(device)

    def draw(self, start: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the crops of G and D, uint8 (count, B, 3, size, size), and D's noise.

        The noise has the shape (count, B, 2, 3, 26, 26): one sample for the real and the fake crop.
        """
        part = slice(start, start + count)
        shape = (count, 2, 3, D_CROP, D_CROP)
        g_crops, d_crops = [], []
        for pixels, g_corners, d_corners in self._photos:
            g_crops.append(cut_crops(pixels, g_corners[part], G_CROP))
            d_crops.append(cut_crops(pixels, d_corners[part], D_CROP))
        noise = [torch.randn(shape, generator=g, device=g.device) for g in self._noise]
        return torch.stack(g_crops, 1), torch.stack(d_crops, 1), torch.stack(noise, 1)

    def step(self, g_crops: Tensor, d_crops: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """Train both networks of each photo on one crop each; return the losses (B,) by name."""
        kernel = self.generator.kernel()
        with torch.no_grad():
            crops = _to_signed(g_crops)
            rows = CropRows(crops)
            fake = rows.shrink(kernel)
            from_bicubic = fake - self._bicubic @ crops @ self._bicubic.T
            bicubic_loss = from_bicubic.square().mean(dim=(1, 2, 3))
            noise = noise / 255
            g_loss, d_loss, gan_gradient, d_gradients = self.discriminator.discriminate(
                fake, _to_signed(d_crops) + 2 * noise[:, 0], fake + noise[:, 1]
            )
            weight = self._kernel_loss.bicubic_weight * 2 / fake[0].numel()
            gan_gradient = gan_gradient * self._kernel_loss.has_started[:, None, None, None]
            slope = rows.kernel_gradient(gan_gradient + weight[:, None, None, None] * from_bicubic)
        # Chain rule: `slope` is the gradient of the image losses with respect to the kernel. The
        # photos share no parameters, so their losses can be summed.
        loss = self._kernel_loss(kernel).sum() + (kernel * slope).sum()
        g_gradients = torch.autograd.grad(loss, self.generator.parameters)
        parameters = [*self.generator.parameters, *self.discriminator.parameters]
        for parameter, gradient in zip(parameters, [*g_gradients, *d_gradients], strict=True):
            parameter.grad = gradient
        for optimiser in self._optimisers:
            optimiser.step()
        if self._average_from is not None:
            self._kernel_sum.add_(kernel.detach() * self._is_averaging)
            self._kernel_count.add_(self._is_averaging)
        self._kernel_loss.update(bicubic_loss, kernel.detach().sum((1, 2)))
        return {"generator": g_loss, "discriminator": d_loss, "bicubic": bicubic_loss}

    def advance(self, iteration: int) -> None:
        """Update the schedules after an iteration (counted from 1)."""
        if iteration % DECAY_INTERVAL == 0:
            self._kernel_loss.decay()
        if iteration % 750 == 0:
            self._rate.mul_(0.1)
        if iteration == self._average_from:
            self._is_averaging.fill_(1)

    def kernels(self) -> Tensor:
        """Return the raw kernels (B, 13, 13): the last, or the mean after `average_from`."""
        if self._average_from is None:
            return self.generator.kernel().detach()
        return self._kernel_sum / self._kernel_count


class KernelLoss:
    """KernelGAN's loss terms on the kernels of B photos.

    check_start: the schedule waits until `has_started`. With the kernel 0 a photo of medium
    brightness has an MSE to bicubic below 0.4 as well, and if the schedule begins there, sparsity
    keeps the kernel at 0.
    has_started: (B,), whether the sum of the kernel has been above 0.5.
    bicubic_weight: (B,), the current weight of the MSE to bicubic downscaling, which is not part of
    the loss returned here.
    """

    def __init__(self, batch: int, device: torch.device, check_start: bool):
        offsets = torch.arange(KERNEL_SIZE, device=device) - KERNEL_SIZE // 2
        gaussian = torch.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 13.0**2))
        self._boundary = 30 * (1 - gaussian / gaussian.max())
        self._boundary[2:-2, 2:-2] = 0
        self._grid = torch.arange(float(KERNEL_SIZE), device=device)
        self.bicubic_weight = torch.full((batch,), BICUBIC_WEIGHT, device=device)
        self.has_started = torch.full((batch,), not check_start, device=device)
        self._streak = torch.zeros(batch, device=device)
        self._decaying = torch.zeros(batch, dtype=torch.bool, device=device)
        self._late = torch.zeros(batch, device=device)

    def __call__(self, kernel: Tensor) -> Tensor:
        """Return the loss (B,) of kernels (B, 13, 13), without the MSE to bicubic."""
        total = kernel.sum(dim=(1, 2))
        boundary = (kernel * self._boundary).abs().mean(dim=(1, 2))
        rows = (kernel.sum(2) * self._grid).sum(1) / total
        columns = (kernel.sum(1) * self._grid).sum(1) / total
        centre = ((rows - CENTRE) ** 2 + (columns - CENTRE) ** 2) / 2
        # The derivative of |k|^0.2 is unbounded at 0, so small values are clamped. Vectorised and
        # scalar float32 powers differ in the last bit, hence float64.
        sparsity = kernel.double().abs().clamp_min(1e-10).pow(0.2).to(kernel.dtype).mean(dim=(1, 2))
        return 0.5 * (1 - total).abs() + 0.5 * boundary + self._late * (centre + 5 * sparsity)

    def update(self, bicubic_loss: Tensor, total: Tensor) -> None:
        """Record each photo's MSE to bicubic /2 and sum of the kernel (B,) in one iteration."""
        self.has_started |= total > MIN_START_SUM
        self._streak.add_(1).mul_((bicubic_loss < 0.4) & self.has_started)
        self._decaying |= self._streak >= 3

    def decay(self) -> None:
        """Lower `bicubic_weight` of the photos whose MSE to bicubic has been small."""
        lower = (self.bicubic_weight / BICUBIC_DECAY).clamp_min(BICUBIC_WEIGHT_MIN)
        self.bicubic_weight.copy_(torch.where(self._decaying, lower, self.bicubic_weight))
        self._late.copy_(self.bicubic_weight < 5e-3)


def bicubic_rows() -> Tensor:
    """Return the matrix (26, 64) of bicubic /2 along a crop's rows, at G's output samples."""
    rows = resize(torch.eye(G_CROP, dtype=torch.float64), size=(G_CROP // 2, G_CROP))
    margin = KERNEL_SIZE // 4  # G's valid output lacks these samples on each side
    return rows[margin : margin + D_CROP].float()


def cut_crops(pixels: Tensor, corners: Tensor, size: int) -> Tensor:
    """Return the crops (N, 3, size, size) of a photo (3, H, W) at the corners (N, 2)."""
    windows = pixels.unfold(1, size, 1).unfold(2, size, 1)
    return windows[:, corners[:, 0], corners[:, 1]].transpose(0, 1)


def _to_signed(pixels: Tensor) -> Tensor:
    return pixels / 127.5 - 1


class GraphStep:
    """A training step captured as a CUDA graph at its fourth call: one launch instead of hundreds.

    step: must take tensors of the same shapes at each call, update its state in place and not
    synchronise with the host. Each call overwrites the outputs of the previous call. If the capture
    fails, all steps run eagerly.
    """

    def __init__(self, step: Callable[..., Any], device: torch.device):
        self._step, self._device, self._calls = step, device, 0
        self._stream = torch.cuda.Stream(device)
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *inputs: Tensor) -> Any:
        """Run one step and return its outputs."""
        self._calls += 1
        with torch.cuda.device(self._device):
            if self._calls <= WARM_UP:
                self._stream.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(self._stream):
                    outputs = self._step(*inputs)
                torch.cuda.current_stream().wait_stream(self._stream)
                return outputs
            if self._calls == WARM_UP + 1:
                self._capture(*inputs)
            if self._graph is None:
                return self._step(*inputs)
            for buffer, value in zip(self._inputs, inputs, strict=True):
                buffer.copy_(value)
            self._graph.replay()
            return self._outputs

    def _capture(self, *inputs: Tensor) -> None:
        self._inputs = [value.clone() for value in inputs]
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self._stream):  # records without computing
                self._outputs = self._step(*self._inputs)
        except RuntimeError as error:
            logger.warning(
                "cannot capture a training step as a CUDA graph; training is slower: %s", error
            )
        else:
            self._graph = graph
