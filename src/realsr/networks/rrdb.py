"""The generator: a residual-in-residual dense network (ESRGAN, Wang et al., ECCVW 2018, section 3.1)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RESIDUAL_SCALE = 0.2
SLOPE = 0.2


def lrelu(x: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.2, in place: each use follows a convolution whose output nobody else holds."""
    return F.leaky_relu(x, SLOPE, inplace=True)


def conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    """3x3 convolution that keeps the size, initialised Kaiming normal (fan-in) times 0.1, bias 0.

    The small start keeps a deep residual network without batch norm close to the identity (ESRGAN, section
    3.1, "smaller initialization").
    """
    conv = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1)
    nn.init.kaiming_normal_(conv.weight, mode="fan_in")
    with torch.no_grad():
        conv.weight.mul_(0.1)
        assert conv.bias is not None
        conv.bias.zero_()
    return conv


class DenseBlock(nn.Module):
    """Five convolutions, each seeing the block's input and all earlier outputs.

    x_k = lrelu(conv_k([x, x_1, ..., x_{k-1}])) for k = 1..4;  y = x + 0.2 conv_5([x, x_1, ..., x_4])
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
        x1 = lrelu(self.conv1(x))
        x2 = lrelu(self.conv2(torch.cat((x, x1), 1)))
        x3 = lrelu(self.conv3(torch.cat((x, x1, x2), 1)))
        x4 = lrelu(self.conv4(torch.cat((x, x1, x2, x3), 1)))
        return x + RESIDUAL_SCALE * self.conv5(torch.cat((x, x1, x2, x3, x4), 1))


class ResidualDenseBlocks(nn.Module):
    """Residual in residual: y = x + 0.2 D3(D2(D1(x))), each D a dense block."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.RDB1 = DenseBlock(features, growth)
        self.RDB2 = DenseBlock(features, growth)
        self.RDB3 = DenseBlock(features, growth)

    def forward(self, x: Tensor) -> Tensor:
        """(N,features,H,W) -> the same shape."""
        return x + RESIDUAL_SCALE * self.RDB3(self.RDB2(self.RDB1(x)))


class RRDB(nn.Module):
    """The generator. At scale 4 the parameter names are those of the published ESRGAN and RealSR checkpoints.

    Args:
        scale: 2 or 4; one upsampling stage for each factor 2.
        features: channels of the trunk.
        blocks: number of residual-in-residual dense blocks.
        growth: channels that each convolution of a dense block adds.

    Raises:
        ValueError: for another scale, or a size below 1.
    """

    def __init__(self, scale: int = 4, features: int = 64, blocks: int = 23, growth: int = 32) -> None:
        super().__init__()
        if scale not in (2, 4):
            raise ValueError(f"scale is {scale}; the RRDB generator is made for scale 2 or 4")
        if min(features, blocks, growth) < 1:
            raise ValueError(
                f"features, blocks and growth are {features}, {blocks} and {growth}; each must be at least 1"
            )
        self.scale = scale
        self.conv_first = conv3x3(3, features)
        self.RRDB_trunk = nn.Sequential(*(ResidualDenseBlocks(features, growth) for _ in range(blocks)))
        self.trunk_conv = conv3x3(features, features)
        self.upconv1 = conv3x3(features, features)
        if scale == 4:
            self.upconv2 = conv3x3(features, features)
        self.HRconv = conv3x3(features, features)
        self.conv_last = conv3x3(features, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N,3,h,w), 0..1 -> (N,3,h*scale,w*scale), about 0..1 but not clamped."""
        first = self.conv_first(x)
        y = first + self.trunk_conv(self.RRDB_trunk(first))
        y = lrelu(self.upconv1(F.interpolate(y, scale_factor=2.0, mode="nearest")))
        if self.scale == 4:
            y = lrelu(self.upconv2(F.interpolate(y, scale_factor=2.0, mode="nearest")))
        return self.conv_last(lrelu(self.HRconv(y)))
