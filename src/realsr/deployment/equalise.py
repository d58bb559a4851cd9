"""An RRDB whose channels take equal shares of the range of the tensor they are in, so that INT8 serves all of them.

A tensor is quantised with one scale, which its widest channel sets, and in the concatenations of a dense block others
are tens of times narrower. A factor per channel moves through a convolution and a leaky ReLU (which is positively
homogeneous) into the weights that read it: cross-layer equalisation (Nagel et al., Data-Free Quantization Through
Weight Equalization and Bias Correction, ICCV 2019, section 4.1), here by the activations' ranges as in SmoothQuant
(Xiao et al., ICML 2023). Only where a residual sum is read or added to, a multiplication by channel remains.
"""

import copy
from collections.abc import Sequence
from itertools import zip_longest

import torch
from torch import Tensor, nn

from realsr.networks.rrdb import RESIDUAL_SCALE, RRDB, DenseBlock, dense_layers

NARROWEST = 2**-6  # of the whole range: narrower channels are not widened to all of it

_Factors = dict[
    nn.Module, Tensor
]  # of a convolution's input or output: by which each channel fills the range of all


def equalise(network: RRDB, photos: Sequence[Tensor]) -> "EqualisedRRDB":
    """Return the same function, up to rounding, with channels of equal ranges on photos, each (1, 3, h, w) in 0..1."""
    equal = EqualisedRRDB(network)
    trunk = equal.trunk_conv
    tail = [
        equal.upconv1,
        *([equal.upconv2] if equal.scale == 4 else []),
        equal.HRconv,
        equal.conv_last,
    ]
    with torch.no_grad():
        reads, gives = _measure(equal, photos)
        for dense in [
            module for module in equal.RRDB_trunk.modules() if isinstance(module, EqualisedDense)
        ]:
            *hidden, last = dense.convs()
            widths = reads[last]  # the last reads all that the others do
            for conv in hidden:
                first = conv.in_channels
                _scale(conv, widths[:first], widths[first : first + conv.out_channels])
            _scale(last, widths, gives[last])
            _set_factors(dense, widths[: hidden[0].in_channels], gives[last])
        _scale(trunk, reads[trunk], gives[trunk])
        _set_factors(equal, reads[trunk], gives[trunk])
        equal.before_tail.mul_(reads[tail[0]][None, :, None, None])
        for conv, reader in zip_longest(tail, tail[1:]):
            _scale(conv, reads[conv], torch.ones(3) if reader is None else reads[reader])
    return equal


class EqualisedRRDB(RRDB):
    """An RRDB with a factor for each channel where residual sums are read and added to; at first they change nothing.

    Convolutions have the names that they have in the RRDB.
    """

    before: Tensor
    after: Tensor
    before_tail: Tensor

    def __init__(self, network: RRDB) -> None:
        dense = next(module for module in network.modules() if isinstance(module, DenseBlock))
        features, growth = dense.conv1.in_channels, dense.conv1.out_channels
        with torch.device("meta"):
            super().__init__(network.scale, features, len(network.RRDB_trunk), growth)
        self.load_state_dict(copy.deepcopy(network.state_dict()), assign=True)
        for block in self.RRDB_trunk:
            for name in ("RDB1", "RDB2", "RDB3"):
                setattr(block, name, EqualisedDense(getattr(block, name)))
        for name in ("before", "after", "before_tail"):
            self.register_buffer(name, torch.ones(1, features, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """(N,3,h,w) -> (N,3,h*scale,w*scale)."""
        first = self.conv_first(x)
        trunk = self.trunk_conv(self.run_trunk(first) * self.before) * self.after
        return self.upsample((first + trunk) * self.before_tail)


class EqualisedDense(nn.Module):
    """A dense block: x + after * conv_5([before * x, x_1, ..., x_4])."""

    before: Tensor
    after: Tensor

    def __init__(self, dense: DenseBlock) -> None:
        super().__init__()
        for name, conv in dense.named_children():
            self.add_module(name, conv)
        features = dense.conv1.in_channels
        self.register_buffer("before", torch.ones(1, features, 1, 1))
        self.register_buffer("after", torch.full((1, features, 1, 1), RESIDUAL_SCALE))

    def convs(self) -> list[nn.Conv2d]:
        """Return the five convolutions in order."""
        return [conv for conv in self.children() if isinstance(conv, nn.Conv2d)]

    def forward(self, x: Tensor) -> Tensor:
        """(N,features,H,W) -> the same shape."""
        y, _ = dense_layers(x * self.before, self.convs())
        return x + y * self.after


def _measure(network: EqualisedRRDB, photos: Sequence[Tensor]) -> tuple[_Factors, _Factors]:
    """Return the factors of what convolutions read and give, by the least and the greatest value of each channel."""
    ranges: list[dict[nn.Module, tuple[Tensor, Tensor]]] = [{}, {}]

    def note(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        for table, values in zip(ranges, (inputs[0], output), strict=True):
            least, greatest = values.transpose(0, 1).flatten(1).aminmax(dim=1)
            if module in table:
                least, greatest = (
                    torch.minimum(least, table[module][0]),
                    torch.maximum(greatest, table[module][1]),
                )
            table[module] = least, greatest

    hooks = [
        conv.register_forward_hook(note)
        for conv in network.modules()
        if isinstance(conv, nn.Conv2d)
    ]
    for photo in photos:
        network(photo)
    for hook in hooks:
        hook.remove()
    reads, gives = (
        {module: _widen(*limits) for module, limits in table.items()} for table in ranges
    )
    return reads, gives


def _widen(least: Tensor, greatest: Tensor) -> Tensor:
    """Return the factor of each channel by which it fills the range of all."""
    least, greatest = (-least).clamp_min(0), greatest.clamp_min(0)
    tiny = torch.finfo(least.dtype).tiny
    shares = torch.maximum(
        least / least.max().clamp_min(tiny), greatest / greatest.max().clamp_min(tiny)
    )
    return 1 / shares.clamp_min(NARROWEST)


def _set_factors(branch: EqualisedRRDB | EqualisedDense, before: Tensor, after: Tensor) -> None:
    branch.before.mul_(before[None, :, None, None])
    branch.after.div_(after[None, :, None, None])


def _scale(conv: nn.Conv2d, inputs: Tensor, outputs: Tensor) -> None:
    """Let a convolution read and give channels that are wider by factors."""
    assert conv.bias is not None
    conv.weight.div_(inputs[None, :, None, None]).mul_(outputs[:, None, None, None])
    conv.bias.mul_(outputs)
