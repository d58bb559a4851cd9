"""The patch discriminator (pix2pix, Isola et al., CVPR 2017, section 3.2.2 and appendix 6.1.2)."""

from typing import Annotated

from torch import Tensor, nn

from realsr.core.ranges import Range


class PatchGAN(nn.Module):
    """One logit for each patch of an image.

    4x4 convolutions with batch norm and leaky ReLU of slope 0.2: `layers` of stride 2, then one of
    stride 1, then one of stride 1 to a single channel. Channels double from `features` up to 8
    times that number. The first and the last convolution have no batch norm. The receptive field of
    a logit is 16, 34, 70, 142 pixels for 1, 2, 3, 4 layers. Convolutions are initialised N(0,
    0.02), batch-norm scales N(1, 0.02), biases 0. Parameter names are those of pix2pix's published
    code.

    Args:
        features: channels after the first convolution.
        layers: number of convolutions of stride 2.
    """

    def __init__(
        self, features: Annotated[int, Range(1)], layers: Annotated[int, Range(1)]
    ) -> None:
        super().__init__()
        self.smallest = 3 * 2**layers
        modules: list[nn.Module] = [
            nn.Conv2d(3, features, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        channels = features
        for layer in range(1, layers + 1):
            outputs = features * min(2**layer, 8)
            stride = 2 if layer < layers else 1
            modules += [
                # No bias, since batch norm has its own.
                nn.Conv2d(channels, outputs, 4, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.LeakyReLU(0.2, inplace=True),
            ]
            channels = outputs
        modules.append(nn.Conv2d(channels, 1, 4, stride=1, padding=1))
        self.model = nn.Sequential(*modules)
        self.model.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N,3,H,W), 0..1 -> logits (N,1,h',w'), h' = H // 2**layers - 2.

        Raises ValueError for an image that is too small for a single logit (24 pixels at 3 layers).
        """
        height, width = x.shape[-2:]
        if min(height, width) < self.smallest:
            raise ValueError(
                f"the patch discriminator needs images of at least {self.smallest}x{self.smallest} "
                f"pixels, got {height}x{width}: use larger crops or fewer layers"
            )
        return self.model(x)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)
