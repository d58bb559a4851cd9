"""The U-Net discriminator with spectral norm (Real-ESRGAN, ICCVW 2021, section 3.4)."""

from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from realsr.core.ranges import Range
from realsr.networks.rrdb import lrelu

STEP = 8  # the image is halved three times


class UNet(nn.Module):
    """One logit for each pixel of an image.

    A 3x3 convolution, three 4x4 convolutions of stride 2 that double the channels, three 3x3
    convolutions that halve them, then three 3x3 convolutions at full size. Each of those that halve
    the channels follows bilinear upsampling by 2, and the layer of the same size is added to its
    output. All but the last have leaky ReLU of slope 0.2. All but the first and the last have
    spectral norm and no bias. Layer names are those of Real-ESRGAN's published code.

    Args:
        features: channels of the first convolution.
    """

    def __init__(self, features: Annotated[int, Range(1)]) -> None:
        super().__init__()
        n = features
        self.conv0 = nn.Conv2d(3, n, 3, padding=1)
        self.conv1 = _conv(n, 2 * n, 4, stride=2)
        self.conv2 = _conv(2 * n, 4 * n, 4, stride=2)
        self.conv3 = _conv(4 * n, 8 * n, 4, stride=2)
        self.conv4 = _conv(8 * n, 4 * n, 3)
        self.conv5 = _conv(4 * n, 2 * n, 3)
        self.conv6 = _conv(2 * n, n, 3)
        self.conv7 = _conv(n, n, 3)
        self.conv8 = _conv(n, n, 3)
        self.conv9 = nn.Conv2d(n, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N,3,H,W), 0..1 -> logits (N,1,H,W).

        Raises ValueError if H or W is no multiple of 8.
        """
        height, width = x.shape[-2:]
        if height % STEP or width % STEP:
            raise ValueError(
                f"the U-Net discriminator was given {height}x{width} images and needs sides that "
                f"are multiples of {STEP}: set trainer.crop to such a number, or use the patch "
                "discriminator, which takes any size"
            )
        y0 = lrelu(self.conv0(x))
        y1 = lrelu(self.conv1(y0))
        y2 = lrelu(self.conv2(y1))
        y3 = lrelu(self.conv3(y2))
        y4 = lrelu(self.conv4(_upsample(y3))) + y2
        y5 = lrelu(self.conv5(_upsample(y4))) + y1
        y6 = lrelu(self.conv6(_upsample(y5))) + y0
        return self.conv9(lrelu(self.conv8(lrelu(self.conv7(y6)))))


def _conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Module:
    return spectral_norm(nn.Conv2d(inputs, outputs, size, stride, padding=1, bias=False))


def _upsample(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
