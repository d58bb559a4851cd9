"""The VGG-style discriminator for 128x128 images (ESRGAN, Wang et al., ECCVW 2018; SRGAN, figure 4)."""

from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn

from realsr.core.ranges import Range

SIZE = 128


def _keep(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


def _halve(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 4, stride=2, padding=1, bias=False)


class VGG128(nn.Module):
    """One logit for a whole 128x128 image.

    Five pairs of a 3x3 convolution and a 4x4 one of stride 2, each but the first with batch norm (so without
    bias), all with leaky ReLU of slope 0.2; channels double from `features` to 8 times that while the size
    falls to 4x4; then linear to 100 and to 1. Parameter names are ESRGAN's, and so is the start:
    Kaiming normal (fan-in), biases 0.

    Args:
        features: channels of the first convolution.

    Raises:
        ValueError: if features is below 1.
    """

    def __init__(self, features: Annotated[int, Range(1)]) -> None:
        super().__init__()
        if features < 1:
            raise ValueError(f"features is {features}; it must be at least 1")
        f = features
        self.conv0_0 = nn.Conv2d(3, f, 3, padding=1)
        self.conv0_1, self.bn0_1 = _halve(f), nn.BatchNorm2d(f)
        self.conv1_0, self.bn1_0 = _keep(f, 2 * f), nn.BatchNorm2d(2 * f)
        self.conv1_1, self.bn1_1 = _halve(2 * f), nn.BatchNorm2d(2 * f)
        self.conv2_0, self.bn2_0 = _keep(2 * f, 4 * f), nn.BatchNorm2d(4 * f)
        self.conv2_1, self.bn2_1 = _halve(4 * f), nn.BatchNorm2d(4 * f)
        self.conv3_0, self.bn3_0 = _keep(4 * f, 8 * f), nn.BatchNorm2d(8 * f)
        self.conv3_1, self.bn3_1 = _halve(8 * f), nn.BatchNorm2d(8 * f)
        self.conv4_0, self.bn4_0 = _keep(8 * f, 8 * f), nn.BatchNorm2d(8 * f)
        self.conv4_1, self.bn4_1 = _halve(8 * f), nn.BatchNorm2d(8 * f)
        self.linear1 = nn.Linear(8 * f * 4 * 4, 100)
        self.linear2 = nn.Linear(100, 1)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, mode="fan_in")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N,3,128,128), 0..1 -> logits (N,1).

        Raises:
            ValueError: for images of another size.
        """
        height, width = x.shape[-2:]
        if (height, width) != (SIZE, SIZE):
            raise ValueError(
                f"the VGG-128 discriminator was given {height}x{width} images and takes {SIZE}x{SIZE} only: "
                f"set trainer.crop={SIZE}, or use the patch discriminator, which takes any size"
            )
        y = _lrelu(self.conv0_0(x))
        y = _lrelu(self.bn0_1(self.conv0_1(y)))
        y = _lrelu(self.bn1_0(self.conv1_0(y)))
        y = _lrelu(self.bn1_1(self.conv1_1(y)))
        y = _lrelu(self.bn2_0(self.conv2_0(y)))
        y = _lrelu(self.bn2_1(self.conv2_1(y)))
        y = _lrelu(self.bn3_0(self.conv3_0(y)))
        y = _lrelu(self.bn3_1(self.conv3_1(y)))
        y = _lrelu(self.bn4_0(self.conv4_0(y)))
        y = _lrelu(self.bn4_1(self.conv4_1(y)))
        return self.linear2(_lrelu(self.linear1(y.flatten(1))))


def _lrelu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2, inplace=True)
