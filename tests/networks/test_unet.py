import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from realsr.networks import build_discriminator
from realsr.networks.unet import UNet


def layers(net: nn.Module) -> dict[str, nn.Conv2d]:
    return {name: m for name, m in net.named_modules() if isinstance(m, nn.Conv2d)}


def test_default_is_real_esrgan_s() -> None:
    with torch.device("meta"):
        net = build_discriminator({"name": "unet", "features": 64})
    expected = [  # inputs, outputs, side of the kernel, stride, of the paper's layers in order
        (3, 64, 3, 1), (64, 128, 4, 2), (128, 256, 4, 2), (256, 512, 4, 2), (512, 256, 3, 1), (256, 128, 3, 1),
        (128, 64, 3, 1), (64, 64, 3, 1), (64, 64, 3, 1), (64, 1, 3, 1),
    ]  # fmt: skip
    convs = layers(net)
    assert list(convs) == [f"conv{index}" for index in range(10)]
    assert [
        (c.in_channels, c.out_channels, c.kernel_size[0], c.stride[0]) for c in convs.values()
    ] == expected
    count = sum(inputs * outputs * side**2 for inputs, outputs, side, _ in expected) + 64 + 1
    assert count == 4_376_897
    assert sum(parameter.numel() for parameter in net.parameters()) == count


def test_forward_is_the_written_out_chain_with_weights_of_spectral_norm_1() -> None:
    torch.manual_seed(0)
    net = UNet(features=3).double()
    x = torch.rand(2, 3, 16, 24, dtype=torch.float64)
    for _ in range(100):  # the power iterations of a training converge
        net(x)
    net.eval()

    def conv(index: int, y: Tensor) -> Tensor:
        layer = layers(net)[f"conv{index}"]
        if index in (0, 9):
            return F.conv2d(y, layer.weight, layer.bias, padding=1)
        weight = layer.get_parameter("parametrizations.weight.original")
        weight = weight / torch.linalg.svdvals(weight.flatten(1))[0]
        return F.conv2d(y, weight, stride=layer.stride, padding=1)

    def lrelu(y: Tensor) -> Tensor:
        return torch.where(y > 0, y, 0.2 * y)

    def enlarge(y: Tensor) -> Tensor:
        return nn.Upsample(scale_factor=2, mode="bilinear")(y)

    down = [lrelu(conv(0, x))]
    for index in (1, 2, 3):
        down.append(lrelu(conv(index, down[-1])))
    y = down[3]
    for index, skip in ((4, down[2]), (5, down[1]), (6, down[0])):
        y = lrelu(conv(index, enlarge(y))) + skip
    y = conv(9, lrelu(conv(8, lrelu(conv(7, y)))))
    assert y.shape == (2, 1, 16, 24)
    torch.testing.assert_close(net(x), y, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("height", "width"), [(100, 96), (96, 129), (4, 8)])
def test_other_sizes_are_refused_with_the_way_out(height: int, width: int) -> None:
    with pytest.raises(
        ValueError, match=f"given {height}x{width} images .* multiples of 8"
    ) as error:
        UNet(features=2)(torch.rand(1, 3, height, width))
    assert "trainer.crop" in str(error.value)
