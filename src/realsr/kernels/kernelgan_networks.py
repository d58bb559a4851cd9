"""KernelGAN's two networks for B photos at once, as tensors with the photos on the leading axis.

D's gradients are written out: its three passes of one iteration (G's fake, the real crop, the fake crop) share their
weights, so they are one pass of three groups of patches, forwards and backwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

KERNEL_SIZE = 13
G_CROP = 64
D_CROP = (G_CROP - KERNEL_SIZE) // 2 + 1
FEATURES = 64
G_SIZES = (7, 5, 3, 1, 1, 1)
PATCH = 7
PATCHES = (D_CROP - PATCH + 1) ** 2
HIDDEN = 5
GROUPS = 3  # of patches in one pass of D: G's fake, the real crop, the fake crop
EPSILON = 1e-5  # of batch norm


class ComposedGenerator:
    """G's layers for B photos: `parameters`, shapes (B, out, in, k, k), and the kernel that they compose."""

    def __init__(self, generators: Sequence[torch.Generator], device: torch.device):
        channels = [1] + [FEATURES] * (len(G_SIZES) - 1) + [1]
        shapes = [(channels[i + 1], channels[i], size, size) for i, size in enumerate(G_SIZES)]
        self.parameters = [
            _xavier(shape, generators).to(device).requires_grad_() for shape in shapes
        ]

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
    """Convolve fully and sum over O, by one matrix product: (B, O, m, m), (B, O, I, n, n) -> (B, I, m+n-1, m+n-1)."""
    batch, inputs, taps = kernel.shape[0], weight.shape[2], weight.shape[-1] ** 2
    size = kernel.shape[-1] + weight.shape[-1] - 1
    spread = kernel.flatten(2).mT @ weight.flatten(2)  # (B, m * m, I * n * n)
    blocks = spread.view(batch, -1, inputs, taps).transpose(1, 2).reshape(batch, -1, taps)
    return _fold(blocks, size, kernel.shape[-1])


def _fold(blocks: Tensor, size: int, block: int) -> Tensor:
    """Fold (B, C * block * block, places) to (B, C, size, size)."""
    # As one item with B * C channels, since the gradient of F.fold goes through a batch item by item.
    folded = F.fold(blocks.reshape(1, -1, blocks.shape[2]), (size, size), block)
    return folded.view(len(blocks), -1, size, size)


def _xavier(shape: tuple[int, ...], generators: Sequence[torch.Generator]) -> Tensor:
    """Draw Xavier-normal weights of gain 0.1 for each generator: (B, *shape)."""
    out_channels, in_channels, height, width = shape
    std = 0.1 * (2 / ((in_channels + out_channels) * height * width)) ** 0.5
    return std * torch.stack([torch.randn(shape, generator=generator) for generator in generators])


class CropRows:
    """Crops (B, 3, 64, 64) arranged so that downscaling them by any kernels is one matrix product.

    Each output row is 13 input rows side by side, times a band matrix that holds the kernel's rows.
    """

    def __init__(self, crops: Tensor):
        rows = crops.unfold(2, KERNEL_SIZE, 2)  # (B, 3, 26, 64, 13)
        self._rows = rows.transpose(3, 4).reshape(len(crops), 3 * D_CROP, KERNEL_SIZE * G_CROP)

    def shrink(self, kernel: Tensor) -> Tensor:
        """Correlate with kernels (B, 13, 13) at every second sample: (B, 3, 26, 26)."""
        last = 2 * (D_CROP - 1)  # where the last output column's taps begin
        windows = F.pad(kernel, (last, G_CROP - KERNEL_SIZE)).unfold(
            2, G_CROP, 2
        )  # (B, 13, 26, 64), it first
        bands = windows.transpose(1, 2).flatten(2)
        return (self._rows @ bands.transpose(1, 2)).unflatten(1, (3, D_CROP)).flip(3)

    def kernel_gradient(self, gradient: Tensor) -> Tensor:
        """Return the gradient by the kernel (B, 13, 13), given that by the shrunk crops (B, 3, 26, 26)."""
        bands = gradient.flatten(1, 2).transpose(1, 2) @ self._rows  # (B, 26, 13 * 64)
        column = KERNEL_SIZE * G_CROP
        shape = (len(gradient), D_CROP, KERNEL_SIZE, KERNEL_SIZE)
        return bands.as_strided(shape, (D_CROP * column, column + 2, G_CROP, 1)).sum(1)


@dataclass
class DiscriminatorOutput:
    """Of one pass of D: the losses (B,), the gradient of G's loss by its crop, those of D's by its parameters."""

    generator_loss: Tensor
    discriminator_loss: Tensor
    fake_gradient: Tensor
    gradients: list[Tensor]


class BatchedDiscriminator:
    """D for B photos: a 7x7 and six 1x1 convolutions with spectral norm, a map of which patches are real.

    Batch norm over one photo's crop is per-photo statistics, so photos never mix. Biases before a batch norm have
    no effect and are left out; the first 1x1 convolution follows the 7x7 directly, and both are composed.
    """

    def __init__(self, generators: Sequence[torch.Generator], device: torch.device):
        batch = len(generators)
        first = _xavier((FEATURES, 3, PATCH, PATCH), generators).flatten(2)
        hidden = torch.stack(
            [_xavier((FEATURES, FEATURES, 1, 1), generators).flatten(2) for _ in range(HIDDEN)],
            dim=1,
        )
        last = _xavier((1, FEATURES, 1, 1), generators).flatten(2)
        scale = torch.stack(
            [1 + 0.02 * torch.randn(HIDDEN, FEATURES, generator=g) for g in generators]
        )
        shift, bias = torch.zeros(batch, HIDDEN, FEATURES), torch.zeros(batch, 1, 1)
        self.parameters = [x.to(device) for x in (first, hidden, last, bias, scale, shift)]
        self._spectral = [SpectralNorm(weight, generators) for weight in self.parameters[:3]]
        self._layers = [NormalisedLayer(batch, device) for _ in range(HIDDEN)]
        # Buffers, since on a CPU fresh memory costs more than the arithmetic in it.
        self._patches = torch.empty(batch, 3 * PATCH**2, GROUPS * PATCHES, device=device)
        self._by_patches = torch.empty(batch, 3 * PATCH**2, PATCHES, device=device)
        self._by_output = torch.empty(batch, FEATURES, GROUPS * PATCHES, device=device)
        self._signs = (
            torch.tensor([-1.0, -0.5, 0.5], device=device).repeat_interleave(PATCHES) / PATCHES
        )

    def discriminate(
        self, fake: Tensor, noisy_real: Tensor, noisy_fake: Tensor
    ) -> DiscriminatorOutput:
        """Pass crops (B, 3, 26, 26): `fake` for G, the other two for D, each with its own batch statistics."""
        raw, (bias, scales, shifts) = self.parameters[:3], self.parameters[3:]
        first, hidden, last = (
            norm(weight) for norm, weight in zip(self._spectral, raw, strict=True)
        )
        patches, by_patches, by_output = self._patches, self._by_patches, self._by_output
        _arrange_patches([fake, noisy_real, noisy_fake], patches)
        weights = [hidden[:, 0] @ first, *hidden[:, 1:].unbind(1)]
        inputs = [patches]
        for weight, layer, scale, shift in zip(
            weights, self._layers, scales.unbind(1), shifts.unbind(1), strict=True
        ):
            inputs.append(layer(weight, inputs[-1], scale, shift))
        # In float64, since vector units and scalar code differ in the last bit of float32's sigmoid.
        probability = torch.sigmoid(torch.baddbmm(bias, last, inputs[-1]).double()).to(bias.dtype)
        means = probability.unflatten(2, (GROUPS, PATCHES)).mean(3).squeeze(1)

        # L1 to 1 (G's fake), to 1 (real) and to 0 (fake); D's loss is the mean of its two.
        gradient = probability * (1 - probability) * self._signs
        d_groups = slice(PATCHES, None)  # those that D learns from
        last_gradient = gradient[..., d_groups] @ inputs[-1][..., d_groups].transpose(1, 2)
        bias_gradient = gradient[..., d_groups].sum(2, keepdim=True)
        weight_gradients, scale_gradients, shift_gradients = [], [], []
        torch.mul(last.transpose(1, 2), gradient, out=by_output)
        for weight, layer, x in zip(weights[::-1], self._layers[::-1], inputs[-2::-1], strict=True):
            by_product, scale, shift = layer.backward(by_output)
            weight_gradients.append(by_product[..., d_groups] @ x[..., d_groups].transpose(1, 2))
            scale_gradients.append(scale)
            shift_gradients.append(shift)
            if x is not patches:
                torch.bmm(weight.transpose(1, 2), by_product, out=by_output)
        torch.bmm(weights[0].transpose(1, 2), by_product[..., :PATCHES], out=by_patches)
        composed, *others = reversed(weight_gradients)
        hidden_gradient = torch.stack([composed @ first.transpose(1, 2), *others], dim=1)
        first_gradient = hidden[:, 0].transpose(1, 2) @ composed
        return DiscriminatorOutput(
            generator_loss=1 - means[:, 0],
            discriminator_loss=(1 - means[:, 1] + means[:, 2]) / 2,
            fake_gradient=_fold(by_patches, D_CROP, PATCH),
            gradients=[
                norm.backward(g)
                for norm, g in zip(
                    self._spectral, (first_gradient, hidden_gradient, last_gradient), strict=True
                )
            ]
            + [
                bias_gradient,
                torch.stack(scale_gradients[::-1], dim=1),
                torch.stack(shift_gradients[::-1], dim=1),
            ],
        )


class SpectralNorm:
    """Divides weights (..., out, in) by their largest singular value, after one power iteration a call."""

    def __init__(self, weight: Tensor, generators: Sequence[torch.Generator]):
        shape = (*weight.shape[1:-1], 1)
        left = torch.stack([torch.randn(shape, generator=g) for g in generators])
        self._left = F.normalize(left.to(weight.device), dim=-2)

    def __call__(self, weight: Tensor) -> Tensor:
        """Return the normalised weight."""
        # Sums, not matrix products, whose rounding depends on how many matrices there are.
        self._right = F.normalize((weight * self._left).sum(-2).unsqueeze(-1), dim=-2)
        left = (weight * self._right.mT).sum(-1, keepdim=True)
        self._left.copy_(
            F.normalize(left, dim=-2)
        )  # in place, for a graph of the step to go on with
        self._sigma = (left * self._left).sum((-2, -1), keepdim=True)
        self._normalised = weight / self._sigma
        return self._normalised

    def backward(self, gradient: Tensor) -> Tensor:
        """Return the gradient by the weight of the last call, given that by the normalised weight."""
        along = (gradient * self._normalised).sum((-2, -1), keepdim=True)
        return (gradient - along * self._left * self._right.mT) / self._sigma


class NormalisedLayer:
    """A 1x1 convolution, batch norm and ReLU of x (B, in, 3 * 400), each group with its own statistics."""

    def __init__(self, batch: int, device: torch.device):
        self._product = torch.empty(batch, FEATURES, GROUPS * PATCHES, device=device)
        self._output = torch.empty_like(self._product)

    def __call__(self, weight: Tensor, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Return (B, 64, 3 * 400). weight: (B, 64, in); scale, shift: (B, 64)."""
        torch.bmm(weight, x, out=self._product)
        product, output = _groups(self._product), _groups(self._output)
        self._mean = product.mean(3, keepdim=True)
        square = torch.linalg.vector_norm(product, dim=3, keepdim=True).square_() / PATCHES
        self._rate = (square - self._mean.square()).clamp_min_(0).add_(EPSILON).rsqrt_()
        self._factor = scale[:, :, None, None] * self._rate
        torch.mul(product, self._factor, out=output)
        output.add_(shift[:, :, None, None] - self._mean * self._factor).relu_()
        return self._output

    def backward(self, by_output: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients by weight @ x, and by scale and shift (B, 64) of D's two groups; overwrites buffers."""
        torch.ops.aten.threshold_backward.grad_input(
            by_output, self._output, 0, grad_input=by_output
        )
        gradient, product = _groups(by_output), _groups(self._product)
        shift = gradient.sum(3, keepdim=True)
        torch.mul(gradient, product, out=_groups(self._output))
        scale = (_groups(self._output).sum(3, keepdim=True) - self._mean * shift) * self._rate
        slope = -self._factor * self._rate * scale / PATCHES
        offset = -self._factor * shift / PATCHES - slope * self._mean
        product.mul_(slope).add_(offset).add_(gradient.mul_(self._factor))
        return self._product, scale[:, :, 1:].sum((2, 3)), shift[:, :, 1:].sum((2, 3))


def _groups(x: Tensor) -> Tensor:
    return x.view(*x.shape[:2], GROUPS, PATCHES)


def _arrange_patches(crops: Sequence[Tensor], out: Tensor) -> None:
    """Arrange the 7x7 patches of three crops (B, 3, 26, 26) as columns: out is (B, 147, 3 * 400)."""
    stacked = torch.stack(list(crops), dim=2)  # (B, 3, groups, 26, 26)
    stacked = stacked - stacked.mean(
        (3, 4), keepdim=True
    )  # as batch norm does anyway: small numbers round less
    windows = stacked.unfold(3, PATCH, 1).unfold(4, PATCH, 1).permute(0, 1, 5, 6, 2, 3, 4)
    out.view(windows.shape).copy_(windows)
