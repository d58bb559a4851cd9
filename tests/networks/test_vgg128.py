import pytest
import torch
from torch import nn

from realsr.networks import build_discriminator
from realsr.networks.vgg128 import VGG128


def test_one_logit_for_each_image() -> None:
    assert VGG128(features=4)(torch.rand(3, 3, 128, 128)).shape == (3, 1)


def test_default_is_esrgan_s() -> None:
    with torch.device("meta"):
        net = build_discriminator({"name": "vgg128", "features": 64})
    convs = {name: m for name, m in net.named_modules() if isinstance(m, nn.Conv2d)}
    widths = [64, 64, 128, 128, 256, 256, 512, 512, 512, 512]
    assert [c.out_channels for c in convs.values()] == widths
    assert list(convs) == [f"conv{i}_{j}" for i in range(5) for j in (0, 1)]
    assert all(c.kernel_size[0] == (4 if name.endswith("_1") else 3) for name, c in convs.items())
    assert all(c.stride[0] == (2 if name.endswith("_1") else 1) for name, c in convs.items())
    assert [name for name, c in convs.items() if c.bias is not None] == ["conv0_0"]
    norms = [name for name, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms == [f"bn{name.removeprefix('conv')}" for name in list(convs)[1:]]
    assert tuple(net.linear1.weight.shape) == (100, 512 * 4 * 4)
    assert tuple(net.linear2.weight.shape) == (1, 100)


def test_forward_is_the_written_out_chain() -> None:
    net = VGG128(features=2).eval()
    x = torch.rand(2, 3, 128, 128)
    y = x
    for i in range(5):
        for j in (0, 1):
            y = net.get_submodule(f"conv{i}_{j}")(y)
            if (i, j) != (0, 0):
                y = net.get_submodule(f"bn{i}_{j}")(y)
            y = torch.where(y > 0, y, 0.2 * y)
    y = net.linear1(y.flatten(1))
    torch.testing.assert_close(net(x), net.linear2(torch.where(y > 0, y, 0.2 * y)))


@pytest.mark.parametrize(("height", "width"), [(96, 96), (128, 129), (256, 128)])
def test_other_sizes_are_refused_with_the_ways_out(height: int, width: int) -> None:
    with pytest.raises(ValueError, match=f"128x128 pixels, got {height}x{width}") as error:
        VGG128(features=2)(torch.rand(1, 3, height, width))
    assert "trainer.crop=128" in str(error.value)
    assert "patch discriminator" in str(error.value)
