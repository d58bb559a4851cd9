"""The RRDB generator for inference: the values of `RRDB.forward` in less time and memory.

Compared with `RRDB.forward`, the time is 0.85 in float32 for 128x128 pixels and 0.55 for half a
megapixel; in bf16 it is 0.43 and 0.27 (experiments/benchmarks/results/2026-11-23_upscale.json). The
dense block is shared. With `winograd`, it is replaced by a faster one, see `winograd.py`.

- Tensors are channels-last throughout, so no convolution reorders them.
- In half precision, the convolutions of the dense blocks (nine tenths of the work) use half
  precision, while their residual sums stay in float32. Four convolutions outside the blocks
  contribute most of the rounding error and use float32: the first, the one after the blocks, the
  first upsampling and the last. The error against float32 is 10 dB lower than with half precision
  throughout.
- A 3x3 convolution after nearest-neighbour upsampling by 2 or 3 reads each pixel several times. For
  each output phase (row and column modulo the factor) it equals a 2x2 convolution before
  upsampling, with 4/9 of the work.
- The layers after the blocks have up to 64 times as many pixels. They are computed in cells that
  fit the cache.
"""

import copy
from collections.abc import Callable
from itertools import product
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from realsr.networks.rrdb import RESIDUAL_SCALE, RRDB, STAGES, dense_layers, lrelu

_Function = Callable[[Tensor], Tensor]
_Convolutions = list[_Function]

HALO = 2  # LR pixels around a cell that its upsampled pixels depend on, at every scale
CELL_CPU, CELL_CUDA = 64, 512  # LR pixels per side that fit a cache, and that occupy a GPU


class FastRRDB:
    """An RRDB for inference only, from a copy of a network on the same device.

    half: the precision of most convolutions; None for float32.
    winograd: whether to compute the dense blocks in float32 by `WinogradTrunk`, on the CPU.
    cell: the side, in LR pixels, of the parts that are upsampled at a time; None for the device's
    default.
    """

    def __init__(
        self,
        network: RRDB,
        half: torch.dtype | None,
        cell: int | None = None,
        winograd: bool = False,
    ) -> None:
        self.half = half or torch.float32
        self.cell = cell or (CELL_CUDA if network.conv_first.weight.is_cuda else CELL_CPU)
        if cell is None and network.scale > 4:  # no more pixels than at scale 4
            self.cell = 4 * self.cell // network.scale
        self.trunk: _Function = self._direct_trunk
        replacements = dict[int, nn.Module]()
        if winograd:
            from realsr.inference.winograd import WinogradTrunk  # numba is optional

            self.trunk = WinogradTrunk(network)
            # Most of the weights are in the trunk, and the copy does not use them.
            replacements[id(network.RRDB_trunk)] = nn.Sequential()
        self.network = network = copy.deepcopy(network, replacements).requires_grad_(False)
        network.to(memory_format=torch.channels_last)
        self.upsamplings = [
            _fold_upsampling(conv, factor, self.half if stage else torch.float32)
            for stage, (factor, conv) in enumerate(
                zip(STAGES[network.scale], network.upconvs(), strict=True)
            )
        ]
        network.HRconv.to(self.half)
        self.blocks = [
            [cast(_Convolutions, list(dense.children())) for dense in block.children()]
            for block in network.RRDB_trunk.to(self.half)
        ]

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Upscale images (N,3,h,w), 0..1, to (N,3,h*scale,w*scale), float32, not clamped."""
        first = self.network.conv_first(x.contiguous(memory_format=torch.channels_last))
        return self._upsample(first + self.network.trunk_conv(self.trunk(first)))

    def _direct_trunk(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            inner = x
            for dense in block:
                y, _ = dense_layers(inner.to(self.half), dense)
                inner = torch.add(inner, y, alpha=RESIDUAL_SCALE)
            x = torch.add(x, inner, alpha=RESIDUAL_SCALE)
        return x

    def _upsample(self, y: Tensor) -> Tensor:
        (count, _, height, width), scale = y.shape, self.network.scale
        sr = torch.empty(count, 3, scale * height, scale * width, device=y.device)
        cells = product(_cells(height, self.cell, scale), _cells(width, self.cell, scale))
        for (rows, inner_rows, sr_rows), (columns, inner_columns, sr_columns) in cells:
            cell = y[:, :, rows, columns]
            for weights, bias in self.upsamplings:
                cell = _apply_stage(cell, weights, bias)
            cell = self.network.conv_last(lrelu(self.network.HRconv(cell.to(self.half))).float())
            sr[:, :, sr_rows, sr_columns] = cell[:, :, inner_rows, inner_columns]
        return sr


def _cells(length: int, size: int, scale: int) -> list[tuple[slice, slice, slice]]:
    """Return, along one side, each cell's input, the inner part of its result, and its place."""
    cells = []
    for start in range(0, length, size):
        stop = min(start + size, length)
        first, last = max(start - HALO, 0), min(stop + HALO, length)
        inner = slice(scale * (start - first), scale * (stop - first))
        cells.append((slice(first, last), inner, slice(scale * start, scale * stop)))
    return cells


def _fold_upsampling(
    conv: nn.Conv2d, factor: int, dtype: torch.dtype
) -> tuple[list[list[Tensor]], Tensor]:
    """Return the 2x2 weights of each phase of rows and of columns, and the bias."""
    assert conv.bias is not None
    weights = [
        [
            columns.to(dtype).contiguous(memory_format=torch.channels_last)
            for columns in _fold(rows, 3, factor)
        ]
        for rows in _fold(conv.weight, 2, factor)
    ]
    return weights, conv.bias.to(dtype)


def _fold(weight: Tensor, dim: int, factor: int) -> list[Tensor]:
    """Return the two weights along a dimension, of size 3 in `weight`, for each output phase."""
    first, second, third = weight.unbind(dim)
    total = first + second + third
    # The first phase reads the pixel before once and its own pixel twice. The last reads its own
    # pixel twice and the next once. Those between read only their own.
    phases = [
        (first, second + third),
        *[(total, torch.zeros_like(total))] * (factor - 2),
        (first + second, third),
    ]
    return [torch.stack(phase, dim) for phase in phases]


def _apply_stage(x: Tensor, weights: list[list[Tensor]], bias: Tensor) -> Tensor:
    """Upsample by a factor r (nearest neighbour), convolve (3x3) and apply leaky ReLU.

    (N,inputs,H,W) -> (N,outputs,rH,rW)
    """
    x, factor = x.to(bias.dtype), len(weights)
    count, _, height, width = x.shape
    shape = (count, len(bias), factor * height, factor * width)
    y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    for row, column in product(range(factor), repeat=2):
        part = lrelu(F.conv2d(x, weights[row][column], bias, padding=1))
        top, left = int(row > 0), int(column > 0)  # the first phase begins with the pixel before
        y[:, :, row::factor, column::factor] = part[:, :, top : top + height, left : left + width]
    return y
