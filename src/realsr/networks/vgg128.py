"""The VGG-style discriminator (ESRGAN, Wang et al., ECCVW 2018; SRGAN, figure 4)."""

from typing import Annotated

from torch import Tensor, nn

from realsr.core.ranges import Range
from realsr.networks.rrdb import lrelu

SIZE = 128
LAYERS = [(stage, half) for stage in range(5) for half in (0, 1)]


class VGG128(nn.Module):
    """One logit for a whole 128x128 image.

    Five pairs of a 3x3 convolution and a 4x4 convolution of stride 2. All except the first have
    batch norm instead of a bias; all have leaky ReLU of slope 0.2. Channels double from `features`
    to 8 times that number, while the size falls to 4x4. Two linear layers follow, to 100 values and
    to 1. Parameter names and initialisation are those of ESRGAN: Kaiming normal (fan-in), biases 0.

    Args:
        features: channels of the first convolution.
    """

    def __init__(self, features: Annotated[int, Range(1)]) -> None:
        super().__init__()
        self.conv0_0 = nn.Conv2d(3, features, 3, padding=1)
        channels = features
        for stage, half in LAYERS[1:]:
            inputs, channels = channels, features * min(2**stage, 8)
            conv = nn.Conv2d(inputs, channels, 3 + half, stride=1 + half, padding=1, bias=False)
            self.add_module(f"conv{stage}_{half}", conv)
            self.add_module(f"bn{stage}_{half}", nn.BatchNorm2d(channels))
        self.linear1 = nn.Linear(channels * 4 * 4, 100)
        self.linear2 = nn.Linear(100, 1)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, mode="fan_in")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N,3,128,128), 0..1 -> logits (N,1). Raises ValueError for another size."""
        height, width = x.shape[-2:]
        if (height, width) != (SIZE, SIZE):
            raise ValueError(
                f"the VGG-128 discriminator needs images of {SIZE}x{SIZE} pixels, got "
                f"{height}x{width}: set trainer.crop={SIZE}, or use the patch discriminator, which "
                "takes any size"
            )
        y = lrelu(self.conv0_0(x))
        for stage, half in LAYERS[1:]:
            conv = self.get_submodule(f"conv{stage}_{half}")
            norm = self.get_submodule(f"bn{stage}_{half}")
            y = lrelu(norm(conv(y)))
        return self.linear2(lrelu(self.linear1(y.flatten(1))))
