import pytest
import torch
import torch.nn.functional as F
from torch import nn

from realsr.networks import build_discriminator
from realsr.networks.patchgan import PatchGAN


@pytest.mark.parametrize(("layers", "field"), [(1, 16), (2, 34), (3, 70), (4, 142)])
def test_receptive_field(layers: int, field: int) -> None:
    net = (
        PatchGAN(features=4, layers=layers).double().eval()
    )  # eval: batch statistics see the whole image
    x = torch.rand(1, 3, 2 * field, 2 * field, dtype=torch.float64, requires_grad=True)
    logits = net(x)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    assert x.grad is not None
    touched = x.grad.abs().sum((0, 1)) > 0
    for dim in (0, 1):
        places = touched.any(dim).nonzero()
        assert (places.max() - places.min() + 1).item() == field


def test_default_is_pix2pix() -> None:
    net = build_discriminator({"name": "patchgan", "features": 64, "layers": 3})
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convs] == [64, 128, 256, 512, 1]
    assert [c.stride[0] for c in convs] == [2, 2, 2, 1, 1]
    assert sum(p.numel() for p in net.parameters()) == 2_765_633
    assert [m.num_features for m in net.modules() if isinstance(m, nn.BatchNorm2d)] == [
        128,
        256,
        512,
    ]


@pytest.mark.parametrize(
    ("size", "map_size"), [((128, 128), (14, 14)), ((96, 131), (10, 14)), ((24, 25), (1, 1))]
)
def test_one_logit_for_each_patch(size: tuple[int, int], map_size: tuple[int, int]) -> None:
    assert PatchGAN(features=4, layers=3)(torch.rand(2, 3, *size)).shape == (2, 1, *map_size)


def test_forward_is_the_written_out_chain() -> None:
    net = PatchGAN(features=4, layers=3)
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    x = y = torch.rand(2, 3, 48, 40)
    for k, conv in enumerate(convs):
        y = F.conv2d(y, conv.weight, conv.bias, stride=2 if k < 3 else 1, padding=1)
        if 0 < k < 4:  # batch norm in training mode: the statistics of this batch
            norm = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)][k - 1]
            mean, variance = (
                y.mean((0, 2, 3), keepdim=True),
                y.var((0, 2, 3), keepdim=True, unbiased=False),
            )
            y = (y - mean) / (variance + 1e-5).sqrt()
            y = y * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)
        if k < 4:
            y = torch.where(y > 0, y, 0.2 * y)
    torch.testing.assert_close(net(x), y, rtol=1e-4, atol=1e-5)


def test_output_is_logits_of_either_sign() -> None:
    torch.manual_seed(0)
    logits = PatchGAN(features=8, layers=3)(torch.rand(4, 3, 64, 64))
    assert logits.min() < 0 < logits.max()


def test_too_small_images_are_refused_with_the_size() -> None:
    with pytest.raises(ValueError, match="at least 24x24 pixels, got 23x40"):
        PatchGAN(features=4, layers=3)(torch.rand(1, 3, 23, 40))


def test_start_values() -> None:
    torch.manual_seed(0)
    net = PatchGAN(64, 3)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.1)
        elif isinstance(module, nn.BatchNorm2d):
            assert module.weight.mean().item() == pytest.approx(1.0, abs=0.01)
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.3)
    assert all(not p.any() for name, p in net.named_parameters() if name.endswith("bias"))
