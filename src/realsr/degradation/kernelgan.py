"""KernelGAN (Bell-Kligler et al., NeurIPS 2019), composed and batched.

One small GAN a photo, trained on that photo alone: G shrinks the photo by 2, D cannot tell patches of the small
photo from patches of the photo. G is linear, so it is one 13x13 kernel:

    G(x) = (x correlated with k) at every second sample,   k = w1 * w2 * ... * w6   (full convolutions)

Composing k from G's layers costs a thousandth of running them on a crop, and by the chain rule the gradients are
the same. B photos are B independent problems of one shape: every tensor here has them on its leading axis.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from realsr.degradation.crops import draw_crops, interest_map
from realsr.imaging import resize
from realsr.seeding import derive_seed, numpy_generator, torch_generator

KERNEL_SIZE = 13
G_CROP = 64
D_CROP = (G_CROP - KERNEL_SIZE) // 2 + 1
CENTRE = KERNEL_SIZE // 2 + 0.5
FEATURES = 64
G_SIZES = (7, 5, 3, 1, 1, 1)
BICUBIC_WEIGHT, BICUBIC_WEIGHT_MIN, BICUBIC_DECAY = 5.0, 5e-6, 100.0


@dataclass
class KernelGANConfig:
    """How kernels are estimated; the defaults are the paper's."""

    iterations: int = 3000
    learning_rate: float = 2e-4
    frame: int = 0  # pixels left out at the border; 10 for photos that were degraded by a program


class ComposedGenerator:
    """G's layers for B photos: `parameters`, shapes (B, out, in, k, k), and the kernel that they compose."""

    def __init__(self, generators: Sequence[torch.Generator]):
        channels = [1] + [FEATURES] * (len(G_SIZES) - 1) + [1]
        shapes = [(channels[i + 1], channels[i], size, size) for i, size in enumerate(G_SIZES)]
        self.parameters = [_xavier(shape, generators) for shape in shapes]

    def kernel(self) -> Tensor:
        """Compose the layers into the kernels (B, 13, 13), from the last layer to the first."""
        w1, w2, w3, *pointwise = self.parameters
        taps = pointwise[-1].flatten(2)
        for weight in reversed(pointwise[:-1]):
            taps = taps @ weight.flatten(2)
        # The last of the spatial layers sees one sample: its kernel is the layer itself, mixed over channels.
        kernel = (taps @ w3.flatten(2)).unflatten(2, (FEATURES, 3, 3)).squeeze(1)
        return _compose(_compose(kernel, w2), w1).squeeze(1)


def _compose(kernel: Tensor, weight: Tensor) -> Tensor:
    """Full convolution, summed over `weight`'s outputs: (B, O, m, m), (B, O, I, n, n) -> (B, I, m+n-1, m+n-1).

    A transposed convolution written as one batched matrix product and a fold, which is fast for B small problems.
    """
    size = kernel.shape[-1] + weight.shape[-1] - 1
    spread = weight.flatten(2).transpose(1, 2) @ kernel.flatten(2)
    return F.fold(spread, (size, size), weight.shape[-1])


def _xavier(shape: tuple[int, int, int, int], generators: Sequence[torch.Generator]) -> Tensor:
    """Draw Xavier-normal weights of gain 0.1 for each generator: (B, *shape)."""
    out_channels, in_channels, height, width = shape
    std = 0.1 * (2 / ((in_channels + out_channels) * height * width)) ** 0.5
    weights = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
    return (weights * std).requires_grad_()


def shrink(crops: Tensor, kernel: Tensor) -> Tensor:
    """Correlate crops (B, 3, 64, 64) with their kernels (B, 13, 13) at every second sample: (B, 3, 26, 26)."""
    windows = crops.unfold(2, KERNEL_SIZE, 2).unfold(3, KERNEL_SIZE, 2)
    small = windows.flatten(4).flatten(1, 3) @ kernel.flatten(1).unsqueeze(2)
    return small.unflatten(1, windows.shape[1:4]).squeeze(-1)


class BatchedDiscriminator:
    """D for B photos: a 7x7 and six 1x1 convolutions with spectral norm, a map of which patches are real.

    Batch norm over one photo's crop is per-photo statistics, so photos never mix.
    """

    def __init__(self, generators: Sequence[torch.Generator]):
        batch = len(generators)
        self.first = _xavier((FEATURES, 3, 7, 7), generators)
        self.hidden = [_xavier((FEATURES, FEATURES, 1, 1), generators) for _ in range(5)]
        self.last = _xavier((1, FEATURES, 1, 1), generators)
        self.weights = [self.first, *self.hidden, self.last]
        self.biases = [torch.zeros(batch, weight.shape[1], 1, requires_grad=True) for weight in self.weights]
        draws = [torch.randn(5, FEATURES, generator=generator) for generator in generators]
        self.scales = [(1 + 0.02 * torch.stack(d)).requires_grad_() for d in zip(*draws, strict=True)]
        self.shifts = [torch.zeros(batch, FEATURES, requires_grad=True) for _ in range(5)]
        self.parameters = [*self.weights, *self.biases, *self.scales, *self.shifts]
        self._left = [
            F.normalize(torch.stack([torch.randn(weight.shape[1], 1, generator=g) for g in generators]), dim=1)
            for weight in self.weights
        ]

    def normalised_weights(self) -> list[Tensor]:
        """Return the weights (B, out, in) divided by their largest singular value, after one power iteration."""
        return [self._normalise(index, weight.flatten(2)) for index, weight in enumerate(self.weights)]

    def _normalise(self, index: int, weight: Tensor) -> Tensor:
        with torch.no_grad():
            right = F.normalize(weight.transpose(1, 2) @ self._left[index], dim=1)
            left = F.normalize(weight @ right, dim=1)
            self._left[index] = left
        return weight / (left.transpose(1, 2) @ weight @ right)

    def __call__(self, crops: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """Map crops (B, 3, 26, 26) to (B, 1, 400) in 0..1: how real each 7x7 patch looks."""
        batch = crops.shape[0]
        x = weights[0] @ F.unfold(crops, 7) + self.biases[0]
        for layer in range(5):
            x = torch.baddbmm(self.biases[layer + 1], weights[layer + 1], x)
            x = F.batch_norm(
                x.reshape(1, batch * FEATURES, -1),
                None,
                None,
                self.scales[layer].flatten(),
                self.shifts[layer].flatten(),
                training=True,
            )
            x = F.relu(x).view(batch, FEATURES, -1)
        return torch.sigmoid(weights[6] @ x + self.biases[6])


class KernelLoss:
    """The terms on the kernel and their schedule, each photo at its own pace."""

    def __init__(self, batch: int):
        offsets = torch.arange(KERNEL_SIZE) - KERNEL_SIZE // 2
        gaussian = torch.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 13.0**2))
        self._boundary = 30 * (1 - gaussian / gaussian.max())
        self._boundary[2:-2, 2:-2] = 0
        self._grid = torch.arange(float(KERNEL_SIZE))
        self.bicubic_weight = torch.full((batch,), BICUBIC_WEIGHT)
        self._streak = torch.zeros(batch, dtype=torch.int64)
        self._decaying = torch.zeros(batch, dtype=torch.bool)
        self._late = torch.zeros(batch)

    def __call__(self, kernel: Tensor, bicubic_loss: Tensor) -> Tensor:
        """Return the loss (B,) of kernels (B, 13, 13), given each photo's MSE to the bicubic /2."""
        total = kernel.sum(dim=(1, 2))
        boundary = (kernel * self._boundary).abs().mean(dim=(1, 2))
        rows = (kernel.sum(2) @ self._grid) / total
        columns = (kernel.sum(1) @ self._grid) / total
        centre = ((rows - CENTRE) ** 2 + (columns - CENTRE) ** 2) / 2
        # The slope of |k|^0.2 has no bound at 0, where one value would drown the rest.
        sparsity = kernel.abs().clamp_min(1e-10).pow(0.2).mean(dim=(1, 2))
        return (
            0.5 * (1 - total).abs()
            + 0.5 * boundary
            + self.bicubic_weight * bicubic_loss
            + self._late * (centre + 5 * sparsity)
        )

    def advance(self, iteration: int, bicubic_loss: Tensor) -> None:
        """Move each photo's weights on after an iteration (counted from 1)."""
        self._streak = torch.where(bicubic_loss < 0.4, self._streak + 1, 0)
        self._decaying |= self._streak >= 3
        if iteration % 200 == 0:
            lower = (self.bicubic_weight / BICUBIC_DECAY).clamp_min(BICUBIC_WEIGHT_MIN)
            self.bicubic_weight = torch.where(self._decaying, lower, self.bicubic_weight)
            self._late = (self.bicubic_weight < 5e-3).float()


@dataclass
class Photo:
    """A photo with what is drawn from it in advance.

    pixels: (H, W, 3) uint8, even sides; g_crops, d_crops: (iterations, 2) top left corners.
    """

    pixels: Tensor
    g_crops: np.ndarray
    d_crops: np.ndarray


@dataclass
class Estimates:
    """What training yields: raw kernels (B, 13, 13) float64, and losses (B,) as means over the last 100 iterations.

    losses: `generator` (how far D is from taking the fake for real, 0..1), `discriminator` (0..1) and `bicubic`
    (mean square distance to the bicubic /2, values in -1..1).
    """

    kernels: np.ndarray
    losses: dict[str, np.ndarray]


def check_size(image_uint8: Tensor | np.ndarray, config: KernelGANConfig) -> None:
    """Raise ValueError where a photo (H, W, 3) has no room for a 64x64 crop and the frame around it."""
    height, width = image_uint8.shape[:2]
    needed = G_CROP + 2 * (config.frame + 1)
    if min(height, width) < needed:
        raise ValueError(
            f"{width}x{height} pixels are too few for kernel estimation, which needs {needed} on each side: "
            "take a larger photo"
        )


def prepare_photo(image_uint8: Tensor | np.ndarray, config: KernelGANConfig, seed: int) -> Photo:
    """Draw a photo's crops. image_uint8: (H, W, 3), shared with the result and not copied.

    Raises ValueError where the photo has no room for a 64x64 crop and the frame around it.
    """
    check_size(image_uint8, config)
    height, width = (size // 2 * 2 for size in image_uint8.shape[:2])
    pixels, shape = torch.as_tensor(image_uint8)[:height, :width], (height, width)
    rng = numpy_generator(seed, "crops")
    gray = _luma(pixels)
    g_map = interest_map(resize(gray, factor=0.5).numpy(), G_CROP // 2)
    g_crops = draw_crops(g_map, shape, G_CROP, config.iterations, config.frame, rng)
    d_map = interest_map(gray.numpy(), D_CROP)
    return Photo(pixels, g_crops, draw_crops(d_map, shape, D_CROP, config.iterations, config.frame, rng))


def _luma(pixels: Tensor) -> Tensor:
    """(H, W, 3) uint8 -> (H, W) float32 in 0..1, one channel at a time to save memory."""
    gray = pixels[..., 0].float().mul_(0.299 / 255)
    for channel, weight in ((1, 0.587), (2, 0.114)):
        gray.add_(pixels[..., channel].float(), alpha=weight / 255)
    return gray


def train_kernelgans(
    photos: Sequence[Photo],
    config: KernelGANConfig,
    seeds: Sequence[int],
    progress: Callable[[int], None] = lambda steps: None,
    device: torch.device | str = "cpu",
) -> Estimates:
    """Estimate the raw x2 kernels of B photos; their sizes may differ.

    A photo's kernel depends on its image, its seed and the config, and not on the photos beside it; only that how many
    they are changes the rounding of matrix products, which training amplifies to what another seed would change.
    `progress` is called with the number of iterations, summed over photos, since the last call.
    `kernels.postprocess` turns a raw kernel into the one to use.
    """
    if torch.device(device).type != "cpu":
        raise NotImplementedError("kernels are estimated on the CPU")
    weight_generators = [torch_generator(seed, "weights") for seed in seeds]
    noise_generators = [torch_generator(derive_seed(seed, "noise")) for seed in seeds]
    generator, discriminator = ComposedGenerator(weight_generators), BatchedDiscriminator(weight_generators)
    kernel_loss = KernelLoss(len(photos))
    optimisers = [
        torch.optim.Adam(net.parameters, lr=config.learning_rate, betas=(0.5, 0.999))
        for net in (generator, discriminator)
    ]
    schedules = [torch.optim.lr_scheduler.StepLR(optimiser, 750, gamma=0.1) for optimiser in optimisers]
    margin = KERNEL_SIZE // 4  # samples of a half-size crop that G's valid output lacks on each side
    last: deque[Tensor] = deque(maxlen=100)

    for iteration in range(1, config.iterations + 1):
        g_crops = _cut(photos, [photo.g_crops[iteration - 1] for photo in photos], G_CROP)
        d_crops = _cut(photos, [photo.d_crops[iteration - 1] for photo in photos], D_CROP)
        # Away from the crop's border the half of a crop is the crop of the half.
        bicubic = resize(g_crops, factor=0.5)[..., margin:-margin, margin:-margin]

        # G: fool D, and stay a kernel. D's weights are constants here, the gradient flows through D to the crop.
        kernel = generator.kernel()
        fake = shrink(g_crops, kernel)
        weights = discriminator.normalised_weights()
        verdict = discriminator(fake, [weight.detach() for weight in weights])
        bicubic_loss = (fake - bicubic).square().mean(dim=(1, 2, 3))
        fooling = (1 - verdict).abs().mean(dim=(1, 2))
        g_loss = fooling + kernel_loss(kernel, bicubic_loss)
        _step(optimisers[0], g_loss, generator.parameters)
        kernel_loss.advance(iteration, bicubic_loss.detach())

        # D: tell real from fake, each with its own batch statistics.
        noise = torch.stack([torch.randn(2, *d_crops.shape[1:], generator=g) for g in noise_generators]) / 255
        real_verdict = discriminator(d_crops + 2 * noise[:, 0], weights)
        fake_verdict = discriminator(fake.detach() + noise[:, 1], weights)
        d_loss = ((1 - real_verdict).abs() + fake_verdict.abs()).mean(dim=(1, 2)) / 2
        _step(optimisers[1], d_loss, discriminator.parameters)

        for schedule in schedules:
            schedule.step()
        last.append(torch.stack([fooling, d_loss, bicubic_loss]).detach())
        progress(len(photos))
    means = torch.stack(list(last)).double().mean(0).numpy()
    losses = dict(zip(("generator", "discriminator", "bicubic"), means, strict=True))
    return Estimates(generator.kernel().detach().double().numpy(), losses)


def _step(optimiser: torch.optim.Optimizer, losses: Tensor, parameters: Sequence[Tensor]) -> None:
    """Step on the sum of the photos' losses: their gradients do not meet, since no parameter is shared."""
    gradients = torch.autograd.grad(losses.sum(), parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    optimiser.step()


def _cut(photos: Sequence[Photo], corners: Sequence[np.ndarray], size: int) -> Tensor:
    """Cut one crop from each photo: (B, 3, size, size) in -1..1."""
    crops = [
        photo.pixels[top : top + size, left : left + size] for photo, (top, left) in zip(photos, corners, strict=True)
    ]
    return torch.stack(crops).permute(0, 3, 1, 2).to(torch.get_default_dtype()) / 127.5 - 1
