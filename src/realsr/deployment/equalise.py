"""An RRDB whose channels take equal shares of the range of the tensor they are in, so that 8 bits serve all of them.

A tensor is quantised with one scale, which its widest channel sets, and in the concatenations of a dense block others
are tens of times narrower. A factor per channel moves through a convolution and a leaky ReLU (which is positively
homogeneous) into the weights that read it: cross-layer equalisation (Nagel et al., Data-Free Quantization Through
Weight Equalization and Bias Correction, ICCV 2019, section 4.1), here by the activations' ranges as in SmoothQuant
(Xiao et al., ICML 2023). Only where a residual sum is read or added to, a multiplication by channel remains.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from realsr.networks.rrdb import RESIDUAL_SCALE, RRDB, DenseBlock, dense_layers

NARROWEST = 2**-6  # of the whole range: narrower channels are not widened to all of it


def equalise(network: RRDB, photos: Sequence[Tensor]) -> "EqualisedRRDB":
    """Return the same function, up to rounding, with channels of equal ranges on photos, each (1, 3, h, w) in 0..1."""
    equal = EqualisedRRDB(network)
    with torch.no_grad():
        reads, gives = _measure(equal, photos)
        for dense in equal.dense_blocks():
            *hidden, last = dense.convs()
            widths = _widen(reads[last])  # the last reads all that the others do
            _set_factors(dense, widths[: hidden[0].in_channels], _widen(gives[last]))
            for conv in hidden:
                _narrow_inputs(conv, widths[: conv.in_channels])
                _widen_outputs(conv, widths[conv.in_channels : conv.in_channels + conv.out_channels])
            _narrow_inputs(last, widths)
            _widen_outputs(last, _widen(gives[last]))
        trunk = equal.trunk_conv
        _set_factors(equal, _widen(reads[trunk]), _widen(gives[trunk]))
        _narrow_inputs(trunk, _widen(reads[trunk]))
        _widen_outputs(trunk, _widen(gives[trunk]))
        tail = equal.tail()
        equal.before_tail.copy_(_widen(reads[tail[0]])[None, :, None, None])
        for conv in tail:
            _narrow_inputs(conv, _widen(reads[conv]))
        for conv, reader in pairwise(tail):
            _widen_outputs(conv, _widen(reads[reader]))
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
        self.load_state_dict({name: value.clone() for name, value in network.state_dict().items()}, assign=True)
        for block in self.RRDB_trunk:
            for name in ("RDB1", "RDB2", "RDB3"):
                setattr(block, name, EqualisedDense(getattr(block, name)))
        for name in ("before", "after", "before_tail"):
            self.register_buffer(name, torch.ones(1, features, 1, 1))
        self.eval().requires_grad_(False)

    def dense_blocks(self) -> list["EqualisedDense"]:
        """Return the dense blocks in order."""
        return [module for module in self.RRDB_trunk.modules() if isinstance(module, EqualisedDense)]

    def tail(self) -> list[nn.Conv2d]:
        """Return the convolutions after the last residual sum, in order."""
        return [self.upconv1, *([self.upconv2] if self.scale == 4 else []), self.HRconv, self.conv_last]

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


_Ranges = dict[nn.Module, tuple[Tensor, Tensor]]  # a convolution's input or output: least and greatest by channel


def _measure(network: EqualisedRRDB, photos: Sequence[Tensor]) -> tuple[_Ranges, _Ranges]:
    """Return the ranges that convolutions read and give."""
    reads: _Ranges = {}
    gives: _Ranges = {}

    def note(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        for ranges, values in ((reads, inputs[0]), (gives, output)):
            channels = values.transpose(0, 1).flatten(1)
            least, greatest = channels.aminmax(dim=1)
            if module in ranges:
                least, greatest = torch.minimum(least, ranges[module][0]), torch.maximum(greatest, ranges[module][1])
            ranges[module] = least, greatest

    hooks = [conv.register_forward_hook(note) for conv in network.modules() if isinstance(conv, nn.Conv2d)]
    for photo in photos:
        network(photo)
    for hook in hooks:
        hook.remove()
    return reads, gives


def _widen(ranges: tuple[Tensor, Tensor]) -> Tensor:
    """Return the factor of each channel by which it fills the range of all."""
    least, greatest = (-ranges[0]).clamp_min(0), ranges[1].clamp_min(0)
    tiny = torch.finfo(least.dtype).tiny
    shares = torch.maximum(least / least.max().clamp_min(tiny), greatest / greatest.max().clamp_min(tiny))
    return 1 / shares.clamp_min(NARROWEST)


def _set_factors(branch: EqualisedRRDB | EqualisedDense, before: Tensor, after: Tensor) -> None:
    branch.before.mul_(before[None, :, None, None])
    branch.after.div_(after[None, :, None, None])


def _widen_outputs(conv: nn.Conv2d, factors: Tensor) -> None:
    assert conv.bias is not None
    conv.weight.mul_(factors[:, None, None, None])
    conv.bias.mul_(factors)


def _narrow_inputs(conv: nn.Conv2d, factors: Tensor) -> None:
    conv.weight.div_(factors[None, :, None, None])
