"""Equalise the channel ranges of an RRDB for INT8.

A tensor is quantised with one scale, set by its widest channel. In the concatenations of a dense
block other channels are tens of times narrower. A factor per channel can pass through a convolution
and a leaky ReLU, which is positively homogeneous, into the weights of the next layer: cross-layer
equalisation (Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction,
ICCV 2019, section 4.1). The factors here come from activation ranges, as in SmoothQuant (Xiao et
al., ICML 2023). A multiplication per channel remains only where a residual sum is read or updated.
"""

import copy
from collections.abc import Sequence
from itertools import zip_longest

import torch
from torch import Tensor, nn

from realsr.networks.rrdb import RESIDUAL_SCALE, RRDB, DenseBlock, dense_layers

MIN_SHARE = 2**-6  # of the tensor's range; caps the factor of narrower channels

_Factors = dict[nn.Module, Tensor]
"""By convolution: the factor that widens each input or output channel to the tensor's range."""


def equalise(network: RRDB, photos: Sequence[Tensor]) -> "EqualisedRRDB":
    """Return an equivalent network, up to rounding, whose channels have equal ranges on the photos.

    photos: each (1, 3, h, w) in 0..1.
    """
    equal = EqualisedRRDB(network)
    trunk = equal.trunk_conv
    tail = [*equal.upconvs(), equal.HRconv, equal.conv_last]
    with torch.no_grad():
        inputs, outputs = _measure(equal, photos)
        for dense in equal.RRDB_trunk.modules():
            if not isinstance(dense, EqualisedDense):
                continue
            *hidden, last = dense.convs()
            widths = inputs[last]  # the last convolution reads the inputs of all others
            for conv in hidden:
                first = conv.in_channels
                _scale(conv, widths[:first], widths[first : first + conv.out_channels])
            _scale(last, widths, outputs[last])
            _set_factors(dense, widths[: hidden[0].in_channels], outputs[last])
        _scale(trunk, inputs[trunk], outputs[trunk])
        _set_factors(equal, inputs[trunk], outputs[trunk])
        equal.before_tail.mul_(inputs[tail[0]][None, :, None, None])
        for conv, reader in zip_longest(tail, tail[1:]):
            _scale(conv, inputs[conv], torch.ones(3) if reader is None else inputs[reader])
    return equal


class EqualisedRRDB(RRDB):
    """An RRDB with a factor per channel where residual sums are read and updated; initially 1.

    Convolutions have the same names as in the RRDB.
    """

    before: Tensor
    after: Tensor
    before_tail: Tensor

    def __init__(self, network: RRDB) -> None:
        with torch.device("meta"):
            super().__init__(network.scale, *network.size)
        self.load_state_dict(copy.deepcopy(network.state_dict()), assign=True)
        for block in self.RRDB_trunk:
            for name in ("RDB1", "RDB2", "RDB3"):
                setattr(block, name, EqualisedDense(getattr(block, name)))
        for name in ("before", "after", "before_tail"):
            self.register_buffer(name, torch.ones(1, network.size[0], 1, 1))
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
    """Return the factors of convolution inputs and outputs, from the range of each channel."""
    ranges: tuple[_Factors, _Factors] = {}, {}  # -minimum and maximum, (2, channels)

    def update_ranges(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        for table, values in zip(ranges, (inputs[0], output), strict=True):
            low, high = values.transpose(0, 1).flatten(1).aminmax(dim=1)
            limits = torch.stack([-low, high])
            table[module] = torch.maximum(table.get(module, limits), limits)

    hooks = [
        conv.register_forward_hook(update_ranges)
        for conv in network.modules()
        if isinstance(conv, nn.Conv2d)
    ]
    for photo in photos:
        network(photo)
    for hook in hooks:
        hook.remove()
    inputs, outputs = ({conv: _widen(table[conv]) for conv in table} for table in ranges)
    return inputs, outputs


def _widen(limits: Tensor) -> Tensor:
    """Return the factor that widens each channel to the tensor's range; limits: (2, channels)."""
    limits = limits.clamp_min(0)
    largest = limits.amax(dim=1, keepdim=True).clamp_min(torch.finfo(limits.dtype).tiny)
    return 1 / (limits / largest).amax(dim=0).clamp_min(MIN_SHARE)


def _set_factors(branch: EqualisedRRDB | EqualisedDense, before: Tensor, after: Tensor) -> None:
    branch.before.mul_(before[None, :, None, None])
    branch.after.div_(after[None, :, None, None])


def _scale(conv: nn.Conv2d, inputs: Tensor, outputs: Tensor) -> None:
    """Adapt a convolution to input and output channels that are wider by these factors."""
    assert conv.bias is not None
    conv.weight.div_(inputs[None, :, None, None]).mul_(outputs[:, None, None, None])
    conv.bias.mul_(outputs)
