"""KernelGAN's two networks for B photos at once, with the photos on the leading axis.

D's gradients are explicit. Its three passes in one iteration (G's fake, the real crop, the fake
crop) share their weights, so they are computed as one pass over three groups of patches, forward
and backward.
"""

from collections.abc import Sequence

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
    """G for B photos: `parameters`, of shapes (B, out, in, k, k), compose into one kernel each."""

    def __init__(self, generators: Sequence[torch.Generator], device: torch.device):
        channels = [1] + [FEATURES] * (len(G_SIZES) - 1) + [1]
        shapes = [(channels[i + 1], channels[i], size, size) for i, size in enumerate(G_SIZES)]
        self.parameters = [
            _xavier(shape, generators).to(device).requires_grad_() for shape in shapes
        ]

    def kernel(self) -> Tensor:
        """Return the kernels (B, 13, 13), composed from the last layer to the first."""
        w1, w2, w3, *pointwise = self.parameters
        taps = pointwise[-1].flatten(2)
        for weight in reversed(pointwise[:-1]):
            taps = taps @ weight.flatten(2)
        # After w3 come only 1x1 layers: their product with w3 is a kernel per channel.
        kernel = (taps @ w3.flatten(2)).unflatten(2, (FEATURES, 3, 3)).squeeze(1)
        return _compose(_compose(kernel, w2), w1).squeeze(1)


def _compose(kernel: Tensor, weight: Tensor) -> Tensor:
    """Convolve (B, O, m, m) fully with (B, O, I, n, n) and sum over O: (B, I, m+n-1, m+n-1)."""
    batch, inputs, taps = kernel.shape[0], weight.shape[2], weight.shape[-1] ** 2
    size = kernel.shape[-1] + weight.shape[-1] - 1
    spread = kernel.flatten(2).mT @ weight.flatten(2)  # (B, m * m, I * n * n)
    blocks = spread.view(batch, -1, inputs, taps).transpose(1, 2).reshape(batch, -1, taps)
    return _fold(blocks, size, kernel.shape[-1])


def _fold(blocks: Tensor, size: int, block: int) -> Tensor:
    """Fold (B, C * block * block, places) to (B, C, size, size)."""
    # One item of B * C channels, because the gradient of F.fold loops over the batch.
    channels = F.fold(blocks.reshape(1, -1, blocks.shape[2]), (size, size), block)
    return channels.view(len(blocks), -1, size, size)


def _xavier(shape: tuple[int, ...], generators: Sequence[torch.Generator]) -> Tensor:
    """Draw Xavier-normal weights (B, *shape) of gain 0.1, one item per generator."""
    out_channels, in_channels, height, width = shape
    std = 0.1 * (2 / ((in_channels + out_channels) * height * width)) ** 0.5
    return std * torch.stack([torch.randn(shape, generator=generator) for generator in generators])


class CropRows:
    """Crops (B, 3, 64, 64) arranged so that downscaling with any kernels is one matrix product.

    An output row is the product of 13 concatenated input rows and a band matrix of the kernel.
    """

    def __init__(self, crops: Tensor):
        rows = crops.unfold(2, KERNEL_SIZE, 2)  # (B, 3, 26, 64, 13)
        self._rows = rows.transpose(3, 4).reshape(len(crops), 3 * D_CROP, KERNEL_SIZE * G_CROP)

    def shrink(self, kernel: Tensor) -> Tensor:
        """Correlate with kernels (B, 13, 13) at every second sample: (B, 3, 26, 26)."""
        last = 2 * (D_CROP - 1)  # first tap of the last output column
        # (B, 13, 26, 64), from the last output column to the first
        windows = F.pad(kernel, (last, G_CROP - KERNEL_SIZE)).unfold(2, G_CROP, 2)
        bands = windows.transpose(1, 2).flatten(2)
        return (self._rows @ bands.transpose(1, 2)).unflatten(1, (3, D_CROP)).flip(3)

    def kernel_gradient(self, gradient: Tensor) -> Tensor:
        """Return the gradient of the kernel (B, 13, 13) from that of the output (B, 3, 26, 26)."""
        bands = gradient.flatten(1, 2).transpose(1, 2) @ self._rows  # (B, 26, 13 * 64)
        column = KERNEL_SIZE * G_CROP
        shape = (len(gradient), D_CROP, KERNEL_SIZE, KERNEL_SIZE)
        return bands.as_strided(shape, (D_CROP * column, column + 2, G_CROP, 1)).sum(1)


class BatchedDiscriminator:
    """D for B photos: a 7x7 and six 1x1 convolutions with spectral norm, then a sigmoid per patch.

    Batch norm uses the statistics of one photo's crop, so photos do not influence each other.
    Biases before a batch norm have no effect and are omitted. The first 1x1 convolution directly
    follows the 7x7 convolution, so the two are composed.
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
        self._layers = [BatchNormLayer(batch, device) for _ in range(HIDDEN)]
        # Buffers, because allocating this memory on a CPU costs more than the arithmetic.
        self._patches = torch.empty(batch, 3 * PATCH**2, GROUPS * PATCHES, device=device)
        self._by_patches = torch.empty(batch, 3 * PATCH**2, PATCHES, device=device)
        self._by_output = torch.empty(batch, FEATURES, GROUPS * PATCHES, device=device)
        self._signs = (
            torch.tensor([-1.0, -0.5, 0.5], device=device).repeat_interleave(PATCHES) / PATCHES
        )

    def discriminate(
        self, fake: Tensor, noisy_real: Tensor, noisy_fake: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """Return the losses (B,) of G and D on crops (B, 3, 26, 26), and their gradients.

        The gradient of G's loss is with respect to `fake`, those of D's loss to D's parameters.
        `fake` is for G's loss, the other two are for D's. Each has its own batch statistics.
        """
        raw, (bias, scales, shifts) = self.parameters[:3], self.parameters[3:]
        first, hidden, last = (
            norm(weight) for norm, weight in zip(self._spectral, raw, strict=True)
        )
        _arrange_patches([fake, noisy_real, noisy_fake], self._patches)
        weights = [hidden[:, 0] @ first, *hidden[:, 1:].unbind(1)]
        inputs = [self._patches]
        for weight, layer, scale, shift in zip(
            weights, self._layers, scales.unbind(1), shifts.unbind(1), strict=True
        ):
            inputs.append(layer(weight, inputs[-1], scale, shift))
        # Vectorised and scalar float32 sigmoids differ in the last bit, hence float64.
        probability = torch.sigmoid(torch.baddbmm(bias, last, inputs[-1]).double()).to(bias.dtype)
        means = probability.unflatten(2, (GROUPS, PATCHES)).mean(3).squeeze(1)

        # L1 losses with targets 1 (G's fake), 1 (real) and 0 (fake); D's loss is a mean of two.
        gradient = probability * (1 - probability) * self._signs
        d_groups = slice(PATCHES, None)  # the groups of D's loss
        last_gradient = gradient[..., d_groups] @ inputs[-1][..., d_groups].transpose(1, 2)
        bias_gradient = gradient[..., d_groups].sum(2, keepdim=True)
        weight_gradients, scale_gradients, shift_gradients = [], [], []
        by_output = torch.mul(last.transpose(1, 2), gradient, out=self._by_output)
        for weight, layer, x in zip(weights[::-1], self._layers[::-1], inputs[-2::-1], strict=True):
            by_product, scale, shift = layer.backward(by_output)
            weight_gradients.append(by_product[..., d_groups] @ x[..., d_groups].transpose(1, 2))
            scale_gradients.append(scale)
            shift_gradients.append(shift)
            if x is not self._patches:
                torch.bmm(weight.transpose(1, 2), by_product, out=by_output)
        by_patches = self._by_patches
        torch.bmm(weights[0].transpose(1, 2), by_product[..., :PATCHES], out=by_patches)
        product_gradient, *hidden_gradients = reversed(weight_gradients)
        hidden_gradients.insert(0, product_gradient @ first.transpose(1, 2))
        first_gradient = hidden[:, 0].transpose(1, 2) @ product_gradient
        norm_gradients = (first_gradient, torch.stack(hidden_gradients, dim=1), last_gradient)
        d_gradients = [
            *(norm.backward(g) for norm, g in zip(self._spectral, norm_gradients, strict=True)),
            bias_gradient,
            torch.stack(scale_gradients[::-1], dim=1),
            torch.stack(shift_gradients[::-1], dim=1),
        ]
        d_loss = (1 - means[:, 1] + means[:, 2]) / 2
        return 1 - means[:, 0], d_loss, _fold(by_patches, D_CROP, PATCH), d_gradients


class SpectralNorm:
    """Divide weights (..., out, in) by their largest singular value.

    Each call does one power iteration.
    """

    def __init__(self, weight: Tensor, generators: Sequence[torch.Generator]):
        shape = (*weight.shape[1:-1], 1)
        left = torch.stack([torch.randn(shape, generator=g) for g in generators])
        self._left = F.normalize(left.to(weight.device), dim=-2)

    def __call__(self, weight: Tensor) -> Tensor:
        """Return the normalised weight."""
        # Sums, because the rounding of batched matrix products depends on the batch size.
        self._right = F.normalize((weight * self._left).sum(-2).unsqueeze(-1), dim=-2)
        left = (weight * self._right.mT).sum(-1, keepdim=True)
        self._left.copy_(F.normalize(left, dim=-2))  # in place, for CUDA graphs
        self._sigma = (left * self._left).sum((-2, -1), keepdim=True)
        self._output = weight / self._sigma
        return self._output

    def backward(self, gradient: Tensor) -> Tensor:
        """Return the gradient of the last call's weight from that of the normalised weight."""
        along = (gradient * self._output).sum((-2, -1), keepdim=True)
        return (gradient - along * self._left * self._right.mT) / self._sigma


class BatchNormLayer:
    """A 1x1 convolution, batch norm and ReLU of x (B, in, 3 * 400), with statistics per group."""

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
        """Return the gradients of weight @ x, and of scale and shift (B, 64) over D's two groups.

        Overwrites `by_output` and the layer's buffers.
        """
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
    """Write the 7x7 patches of three crops (B, 3, 26, 26) as columns into out (B, 147, 3 * 400)."""
    groups = torch.stack(list(crops), dim=2)  # (B, 3, groups, 26, 26)
    # Batch norm removes the mean in any case; small numbers have smaller rounding errors.
    groups = groups - groups.mean((3, 4), keepdim=True)
    windows = groups.unfold(3, PATCH, 1).unfold(4, PATCH, 1).permute(0, 1, 5, 6, 2, 3, 4)
    out.view(windows.shape).copy_(windows)
