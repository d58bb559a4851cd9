"""The residual-in-residual dense generator (ESRGAN, Wang et al., ECCVW 2018, section 3.1)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from realsr.core.ranges import Range

RESIDUAL_SCALE = 0.2
SLOPE = 0.2
STAGES: dict[int, tuple[int, ...]] = {1: (), 2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}
"""Factors of the upsampling stages by scale."""
Size = Annotated[int, Range(1)]


def lrelu(x: Tensor) -> Tensor:
    """Apply leaky ReLU of slope 0.2 in place, to a result that is not used elsewhere."""
    return F.leaky_relu(x, SLOPE, inplace=True)


def conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    """Return a 3x3 convolution that keeps the size: 0.1 times Kaiming normal (fan-in), bias 0.

    The small initial values keep a deep network without batch norm close to the identity (ESRGAN,
    section 3.1).
    """
    conv = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1)
    if conv.weight.is_meta:  # initialising it would import torch's compiler, which takes a second
        return conv
    nn.init.kaiming_normal_(conv.weight, mode="fan_in")
    with torch.no_grad():
        conv.weight.mul_(0.1)
        assert conv.bias is not None
        conv.bias.zero_()
    return conv


class DenseBlock(nn.Module):
    """Five convolutions, each applied to the block's input and all earlier outputs.

    x_k = lrelu(conv_k([x, x_1, ..., x_{k-1}])) for k = 1..4
    y = x + 0.2 conv_5([x, x_1, ..., x_4])

    In training mode, only [x, x_1, ..., x_4] is stored for the backward pass. Autograd would store
    all concatenations and outputs, which takes four times the memory.
    """

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(features, growth)
        self.conv2 = conv3x3(features + growth, growth)
        self.conv3 = conv3x3(features + 2 * growth, growth)
        self.conv4 = conv3x3(features + 3 * growth, growth)
        self.conv5 = conv3x3(features + 4 * growth, features)

    def forward(self, x: Tensor) -> Tensor:
        """(N,features,H,W) -> the same shape."""
        convs = (self.conv1, self.conv2, self.conv3, self.conv4, self.conv5)
        parameters: list[Any] = [conv.weight for conv in convs] + [conv.bias for conv in convs]
        return _ThriftyDense.apply(x, *parameters) if self.training else _dense(x, *parameters)[0]


def dense_layers(x: Tensor, convs: Sequence[Callable[[Tensor], Tensor]]) -> tuple[Tensor, Tensor]:
    """Return conv_5([x, x_1, ..., x_4]) and [x, x_1, ..., x_4], given the five convolutions."""
    *hidden, last = convs
    for conv in hidden:
        x = torch.cat((x, lrelu(conv(x))), 1)
    return last(x), x


def _dense(x: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Return y and [x, x_1, ..., x_4] of a dense block; parameters: five weights, five biases.

    The convolutions of half-precision weights use this precision, and the sum that of x.
    """
    dtype = parameters[0].dtype
    pairs = zip(parameters[:5], parameters[5:], strict=True)
    y, stack = dense_layers(
        x if dtype == torch.float32 else x.to(dtype),
        [partial(F.conv2d, weight=weight, bias=bias, padding=1) for weight, bias in pairs],
    )
    return torch.add(x, y, alpha=RESIDUAL_SCALE), stack


class _ThriftyDense(torch.autograd.Function):
    """`_dense` with an explicit backward pass.

    With d the gradient of the loss, and g_k that with respect to the output of conv_k:

    g_5 = 0.2 dy
    for k = 5..1: d[x, x_1, ..., x_{k-1}] += conv_k^T(g_k),  g_{k-1} = lrelu'(x_{k-1}) dx_{k-1}
    dx += dy
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor) -> Tensor:
        y, stack = _dense(x, *parameters)
        ctx.save_for_backward(stack, *parameters[:5])
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, ...]:
        stack, *weights = ctx.saved_tensors
        d_weights, d_biases = list[Tensor](), list[Tensor]()
        g: Tensor = RESIDUAL_SCALE * dy
        d_stack: Any = None
        for k, weight in reversed(list(enumerate(weights))):
            inputs = weight.shape[1]
            # Under autocast the weights are float32, but activations and gradients are not.
            d_inputs, d_weight, d_bias = torch.ops.aten.convolution_backward(
                g, stack[:, :inputs], weight.to(stack.dtype), [len(weight)], [1, 1], [1, 1], [1, 1], False, [0, 0], 1,
                [True, True, True],
            )  # fmt: skip
            d_weights.insert(0, d_weight)
            d_biases.insert(0, d_bias)
            d_stack = d_inputs if d_stack is None else d_inputs.add_(d_stack[:, :inputs])
            if k > 0:  # the output of a leaky ReLU has the sign of its input
                channels = slice(inputs - len(weights[k - 1]), inputs)
                g = torch.ops.aten.leaky_relu_backward(
                    d_stack[:, channels], stack[:, channels], SLOPE, True
                )
        return d_stack + dy, *d_weights, *d_biases


class ResidualDenseBlocks(nn.Module):
    """Residual in residual: y = x + 0.2 D3(D2(D1(x))), each D a dense block."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.RDB1 = DenseBlock(features, growth)
        self.RDB2 = DenseBlock(features, growth)
        self.RDB3 = DenseBlock(features, growth)

    def forward(self, x: Tensor) -> Tensor:
        """(N,features,H,W) -> the same shape."""
        return torch.add(x, self.RDB3(self.RDB2(self.RDB1(x))), alpha=RESIDUAL_SCALE)


class RRDB(nn.Module):
    """The RRDB generator, of scale 1, 2, 3, 4 or 8.

    The parameter names are those of ESRGAN's code (at scale 4 also those of the published ESRGAN
    and RealSR checkpoints).

    Args:
        scale: one upsampling stage (nearest neighbour, then a convolution) for each factor 2, one
            of factor 3 at scale 3, none at scale 1.
        features: channels of the trunk.
        blocks: number of residual-in-residual dense blocks.
        growth: channels that each convolution of a dense block adds.

    Attributes:
        size: features, blocks and growth.
        checkpoint_activations: whether to store only the input of each residual-in-residual block
            for the backward pass, which recomputes the rest: the same values with less memory in
            about a third more time. Initially False.

    Raises:
        ValueError: for another scale.
    """

    def __init__(self, scale: int, features: Size, blocks: Size, growth: Size) -> None:
        super().__init__()
        if scale not in STAGES:
            raise ValueError(f"scale={scale}: the RRDB generator supports scales 1, 2, 3, 4 and 8")
        self.scale, self.size = scale, (features, blocks, growth)
        self.checkpoint_activations = False
        self.conv_first = conv3x3(3, features)
        self.RRDB_trunk = nn.Sequential(
            *(ResidualDenseBlocks(features, growth) for _ in range(blocks))
        )
        self.trunk_conv = conv3x3(features, features)
        for stage in range(1, len(STAGES[scale]) + 1):
            self.add_module(f"upconv{stage}", conv3x3(features, features))
        self.HRconv = conv3x3(features, features)
        self.conv_last = conv3x3(features, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N,3,h,w), 0..1 -> (N,3,h*scale,w*scale), about 0..1 but not clamped."""
        first = self.conv_first(x)
        return self.upsample(first + self.trunk_conv(self.run_trunk(first)))

    def upsample(self, y: Tensor) -> Tensor:
        """Apply the layers after the trunk: (N,features,h,w) -> (N,3,h*scale,w*scale)."""
        for factor, conv in zip(STAGES[self.scale], self.upconvs(), strict=True):
            y = lrelu(conv(F.interpolate(y, scale_factor=float(factor), mode="nearest")))
        return self.conv_last(lrelu(self.HRconv(y)))

    def upconvs(self) -> list[nn.Conv2d]:
        """Return the convolutions of the upsampling stages, in order."""
        return [getattr(self, f"upconv{stage + 1}") for stage in range(len(STAGES[self.scale]))]

    def run_trunk(self, x: Tensor) -> Tensor:
        """Apply the residual-in-residual blocks: (N,features,h,w) -> the same shape."""
        if not (self.checkpoint_activations and self.training and torch.is_grad_enabled()):
            return self.RRDB_trunk(x)
        for block in self.RRDB_trunk:
            # The blocks draw no random numbers.
            x = checkpoint(block, x, use_reentrant=False, preserve_rng_state=False)
        return x
