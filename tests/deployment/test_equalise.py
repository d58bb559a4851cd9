import copy
import re
from itertools import pairwise

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from exported_networks import exported_rrdb, photo_part, psnr, rrdb, run_model, run_torch
from realsr.deployment.equalise import EqualisedRRDB, equalise
from realsr.deployment.onnx_graph import layers, to_onnx
from realsr.deployment.quantise import choose_ranges, collect_histograms, to_int8
from realsr.networks.rrdb import RRDB

DENSE = ("RDB1", "RDB2", "RDB3")


def make_unequal(network: RRDB) -> RRDB:
    """The same function, where hidden channels are up to 30 times narrower than others, and their readers make up."""
    unequal = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(5)

    def narrow(conv: nn.Conv2d, readers: list[tuple[nn.Conv2d, int]]) -> None:
        factors = 30 ** -torch.rand(conv.out_channels, generator=generator)
        conv.weight.mul_(factors[:, None, None, None])
        conv.bias.mul_(factors)
        for reader, start in readers:
            reader.weight[:, start : start + len(factors)].div_(factors[None, :, None, None])

    for block in unequal.RRDB_trunk:
        for name in DENSE:
            convs = list(getattr(block, name).children())
            for index, conv in enumerate(convs[:-1]):
                narrow(conv, [(reader, conv.in_channels) for reader in convs[index + 1 :]])
    tail = [*unequal.upconvs(), unequal.HRconv, unequal.conv_last]
    for conv, reader in pairwise(tail):
        narrow(conv, [(reader, 0)])
    return unequal


def shares(network: nn.Module, photos: list[Tensor]) -> dict[str, Tensor]:
    """What share of a tensor's range each channel takes, for all that convolutions read but the picture."""
    seen: dict[str, list[Tensor]] = {}
    hooks = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and module.in_channels > 3:

            def note(_: nn.Module, inputs: tuple[Tensor], __: Tensor, name: str = name) -> None:
                seen.setdefault(name, []).append(inputs[0][0].flatten(1))

            hooks.append(module.register_forward_hook(note))
    for photo in photos:
        run_torch(network, photo)
    for hook in hooks:
        hook.remove()
    found = {}
    for name, parts in seen.items():
        values = torch.cat(parts, 1)
        low, high = (-values).amax(1).clamp_min(0), values.amax(1).clamp_min(0)
        found[name] = torch.maximum(
            low / low.max().clamp_min(1e-30), high / high.max().clamp_min(1e-30)
        )
    return found


def names_of_convolutions(network: nn.Module) -> list[str]:
    return [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_the_same_function_of_equal_channels(
    scale: int, lrs: list[Tensor], random_lr: Tensor
) -> None:
    network = make_unequal(rrdb(scale))
    before = copy.deepcopy(network.state_dict())
    equal = equalise(network, lrs)
    for lr in (lrs[0], lrs[1], random_lr):  # the last was not measured
        assert np.abs(run_torch(equal, lr) - run_torch(network, lr)).max() < 1e-5

    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert names_of_convolutions(equal) == names_of_convolutions(network)
    unequal_shares, equal_shares = shares(EqualisedRRDB(network), lrs), shares(equal, lrs)
    assert len([name for name in equal_shares if name.endswith("conv5")]) == 3
    for name, share in equal_shares.items():
        if re.search("conv[1-4]$", name) and "RDB" in name:
            continue  # these read parts of what conv5 reads
        if "conv5" in name:
            assert float(unequal_shares[name].min()) < 0.05
        torch.testing.assert_close(
            share, (unequal_shares[name] * 64).clamp_max(1), rtol=1e-3, atol=0
        )


def test_narrow_channels_are_not_widened_without_end(lrs: list[Tensor]) -> None:
    network = copy.deepcopy(rrdb(2))
    dense = network.RRDB_trunk[0].RDB1
    dense.conv2.weight[1].zero_()  # one channel is dead, and one nearly
    dense.conv2.bias[1] = 0
    dense.conv3.weight[0].mul_(1e-6)
    dense.conv3.bias[0] = 1e-6
    equal = equalise(network, lrs)
    assert all(bool(value.isfinite().all()) for value in equal.state_dict().values())
    assert np.abs(run_torch(equal, lrs[0]) - run_torch(network, lrs[0])).max() < 1e-5
    widened = equal.RRDB_trunk[0].RDB1.conv3.bias[0] / dense.conv3.bias[0]
    assert float(widened) == pytest.approx(64)


def with_weights(exact: onnx.ModelProto, network: RRDB) -> onnx.ModelProto:
    """The model of another network of the same layers, quicker than exporting it."""
    state = network.state_dict()
    for value in exact.graph.initializer:
        if value.name in state:
            value.CopyFrom(onnx.numpy_helper.from_array(state[value.name].numpy(), value.name))
    return exact


def quantise(
    exact: onnx.ModelProto, photos: list[Tensor]
) -> tuple[dict[str, list[str]], onnx.ModelProto]:
    ranges = choose_ranges(collect_histograms(exact, [photo.numpy() for photo in photos]), "minmax")
    return layers(exact), to_int8(exact, ranges, [])


def test_int8_loses_less_afterwards(lrs: list[Tensor]) -> None:
    network = make_unequal(rrdb(2))
    unequal_layers, unequal = quantise(with_weights(exported_rrdb(2), network), lrs)
    equal_layers, equal = quantise(to_onnx(equalise(network, lrs)), lrs)
    assert list(equal_layers) == list(unequal_layers)
    other = photo_part("chelsea", 100, 150, 40, 48)
    wanted = run_torch(network, other)
    found = [psnr(run_model(model, other), wanted) for model in (unequal, equal)]
    assert found[1] > found[0] + 3, found
    assert found[1] > 30, found
