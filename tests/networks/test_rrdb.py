import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from realsr.networks import build_generator
from realsr.networks.rrdb import RRDB, DenseBlock, ResidualDenseBlocks

STAGE_COUNTS = {1: 0, 2: 1, 3: 1, 4: 2, 8: 3}


def published_shapes(scale: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the official RealSR checkpoints, in their order."""
    convs = {"conv_first": (3, 64)}
    for block in range(23):
        for dense in (1, 2, 3):
            for k in range(1, 6):
                name = f"RRDB_trunk.{block}.RDB{dense}.conv{k}"
                convs[name] = (64 + 32 * (k - 1), 64 if k == 5 else 32)
    convs["trunk_conv"] = (64, 64)
    convs |= dict.fromkeys(["upconv1", "upconv2", "upconv3"][: STAGE_COUNTS[scale]], (64, 64))
    convs["HRconv"], convs["conv_last"] = (64, 64), (64, 3)
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (inputs, outputs) in convs.items():
        shapes[f"{name}.weight"] = (outputs, inputs, 3, 3)
        shapes[f"{name}.bias"] = (outputs,)
    return shapes


def test_parameter_count_of_the_default() -> None:
    with torch.device("meta"):
        net = build_generator({"name": "rrdb", "features": 64, "blocks": 23, "growth": 32}, scale=4)
    assert sum(p.numel() for p in net.parameters()) == 16_697_987


@pytest.mark.parametrize("scale", STAGE_COUNTS)
def test_names_and_shapes_are_those_of_published_checkpoints(scale: int) -> None:
    with torch.device("meta"):
        state = RRDB(scale, 64, 23, 32).state_dict()
    assert [(k, tuple(v.shape)) for k, v in state.items()] == list(published_shapes(scale).items())


@pytest.mark.parametrize("scale", STAGE_COUNTS)
def test_output_is_scale_times_larger(scale: int) -> None:
    net = RRDB(scale, features=8, blocks=1, growth=4)
    assert net(torch.rand(2, 3, 7, 10)).shape == (2, 3, 7 * scale, 10 * scale)


@pytest.mark.parametrize("scale", [-2, 0, 5, 6, 16])
def test_other_scales_are_refused_by_name(scale: int) -> None:
    with pytest.raises(ValueError, match=rf"scale={scale}: .* 1, 2, 3, 4 and 8"):
        RRDB(scale, 64, 23, 32)


def dense_by_hand(state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    seen = [x]
    for k in range(1, 6):
        y = F.conv2d(
            torch.cat(seen, 1), state[f"conv{k}.weight"], state[f"conv{k}.bias"], padding=1
        )
        seen.append(torch.where(y > 0, y, 0.2 * y))
    return x + 0.2 * y


def large_random(module: torch.nn.Module) -> None:
    """Values large enough for every path to show in the output."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("training", [True, False])
def test_dense_block_is_the_written_out_formula(training: bool) -> None:
    block = DenseBlock(6, 4).train(training)
    large_random(block)
    x = torch.randn(2, 6, 5, 7, generator=torch.Generator().manual_seed(1))
    kept = x.clone()
    torch.testing.assert_close(block(x), dense_by_hand(block.state_dict(), x))
    assert torch.equal(x, kept)


def gradients(
    block: DenseBlock,
    form: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    low: torch.dtype | None = None,
) -> list[torch.Tensor]:
    """The output and all gradients of a fixed function of it; `low`: under autocast to this type."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    with torch.autocast("cpu", low, enabled=low is not None):
        y = form(x)
    wanted = torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(y.dtype)
    return [y.detach(), *torch.autograd.grad((y * wanted).sum(), [x, *block.parameters()])]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-5)])
def test_gradients_in_training_are_autograd_s(
    dtype: torch.dtype, tolerance: float, layout: torch.memory_format
) -> None:
    block = DenseBlock(6, 4).to(dtype).to(memory_format=layout)
    large_random(block)
    block.to(dtype)
    x = torch.randn(2, 6, 5, 7, generator=torch.Generator().manual_seed(1)).to(
        dtype, memory_format=layout
    )
    expected = gradients(block, lambda x: dense_by_hand(dict(block.named_parameters()), x), x)
    for found, wanted in zip(gradients(block, block, x), expected, strict=True):
        assert found.dtype == wanted.dtype
        torch.testing.assert_close(
            found, wanted, rtol=tolerance, atol=tolerance * float(wanted.abs().max())
        )


def test_autocast_errs_no_more_than_the_written_out_formula() -> None:
    """All in bfloat16, as inside the network, against float32; in the mean of all tensors, as rounding is chance."""
    block = DenseBlock(16, 8)
    x = torch.randn(4, 16, 12, 12, generator=torch.Generator().manual_seed(1)).bfloat16()
    exact = gradients(block, block, x.float())
    errors = {}
    for name, form in (
        ("ours", block),
        ("plain", lambda x: dense_by_hand(dict(block.named_parameters()), x)),
    ):
        found = gradients(block, form, x, torch.bfloat16)
        assert [tensor.dtype for tensor in found] == 2 * [torch.bfloat16] + 10 * [torch.float32]
        errors[name] = [
            float((a.float() - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True)
        ]
    assert sum(errors["ours"]) < 1.01 * sum(errors["plain"])


def kept_channels(net: torch.nn.Module, x: torch.Tensor) -> float:
    """Channels of x's size that the backward pass keeps, without parameters."""
    sizes = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        held = net(x)  # as long as it lives, no storage is used twice
    del held
    own = {parameter.untyped_storage().data_ptr() for parameter in net.parameters()}
    return sum(size for place, size in sizes.items() if place not in own) / (x.nbytes / x.shape[1])


def test_a_dense_block_keeps_each_channel_once() -> None:
    block = DenseBlock(6, 4)
    x = torch.rand(2, 6, 9, 9, requires_grad=True)
    assert kept_channels(block, x) == 6 + 4 * 4
    assert kept_channels(block.eval(), x) > 2 * (6 + 4 * 4)


def test_checkpointing_keeps_less_and_changes_nothing() -> None:
    x = torch.rand(2, 3, 9, 8, generator=torch.Generator().manual_seed(1))
    net = RRDB(2, features=6, blocks=4, growth=4)
    large_random(net)
    results, kept = [], []
    for net.checkpoint_activations in (False, True):
        net.zero_grad()
        y = net(x)
        y.square().mean().backward()
        results.append([y.detach(), *(p.grad for p in net.parameters())])
        kept.append(kept_channels(net, x))
    for found, wanted in zip(*results, strict=True):
        assert torch.equal(found, wanted)
    # Of each block the 6 channels of its input, instead of 22 for each of three dense blocks.
    assert kept[0] - kept[1] == 4 * (3 * 22 - 6)
    with torch.no_grad():
        assert torch.equal(net(x), results[0][0])


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
def test_compiled_it_is_the_same(checkpointing: bool) -> None:
    net = RRDB(2, features=6, blocks=1, growth=4)
    large_random(net)
    net.checkpoint_activations = checkpointing
    compiled = torch.compile(net)
    x = torch.rand(2, 3, 9, 8, generator=torch.Generator().manual_seed(1))
    results = []
    for form in (net, compiled):
        y = form(x)
        results.append(
            [y.detach(), *torch.autograd.grad(y.square().mean(), list(net.parameters()))]
        )
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize("scale", STAGE_COUNTS)
def test_whole_generator_is_the_written_out_formula(scale: int) -> None:
    net = RRDB(scale, features=6, blocks=2, growth=4)
    large_random(net)
    state = net.state_dict()

    def conv(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    def stage(name: str, x: torch.Tensor) -> torch.Tensor:
        factor = 3 if scale == 3 else 2
        larger = x.repeat_interleave(factor, -1).repeat_interleave(factor, -2)
        return F.leaky_relu(conv(name, larger), 0.2)

    x = torch.rand(1, 3, 5, 4, generator=torch.Generator().manual_seed(1))
    first = y = conv("conv_first", x)
    for block in range(2):
        inner = y
        for dense in (1, 2, 3):
            prefix = f"RRDB_trunk.{block}.RDB{dense}."
            own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            inner = dense_by_hand(own, inner)
        y = y + 0.2 * inner
    y = first + conv("trunk_conv", y)
    for number in range(STAGE_COUNTS[scale]):
        y = stage(f"upconv{number + 1}", y)
    expected = conv("conv_last", F.leaky_relu(conv("HRconv", y), 0.2))
    torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-5)


def test_residuals_are_scaled_by_a_fifth_at_both_levels() -> None:
    block = ResidualDenseBlocks(4, 2)
    for dense in (block.RDB1, block.RDB2, block.RDB3):
        torch.nn.init.zeros_(dense.conv5.weight)
        torch.nn.init.ones_(dense.conv5.bias)
    x = torch.randn(1, 4, 3, 3)
    torch.testing.assert_close(block.RDB1(x), x + 0.2)
    torch.testing.assert_close(block(x), x + 0.2 * (x + 3 * 0.2))


def test_starts_small_kaiming_without_bias() -> None:
    torch.manual_seed(0)
    net = RRDB(4, features=64, blocks=1, growth=32)
    for conv in (net.trunk_conv, net.upconv2, net.RRDB_trunk[0].RDB2.conv5):
        fan_in = conv.in_channels * 9
        assert conv.weight.std().item() == pytest.approx(0.1 * math.sqrt(2 / fan_in), rel=0.03)
    assert all(not p.any() for name, p in net.named_parameters() if name.endswith("bias"))


def test_gradient_reaches_every_parameter_and_the_image() -> None:
    net = RRDB(4, features=4, blocks=2, growth=2)
    x = torch.rand(1, 3, 4, 4, requires_grad=True)
    net(x).square().sum().backward()
    for tensor in (x, *net.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.any()
