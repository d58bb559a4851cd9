"""The RRDB generator for inference: the values of `RRDB.forward` in less time and memory.

Compared with `RRDB.forward`, the time is 0.85 in float32 for 128x128 pixels and 0.55 for half a
megapixel; in bf16 it is 0.43 and 0.27 (experiments/benchmarks/results/2026-11-23_upscale.json). The
forward pass is that of the RRDB. Its parts differ where this saves time:

- Tensors are channels-last throughout, so no convolution reorders them.
- In half precision, the convolutions of the dense blocks (nine tenths of the work) use half
  precision, while their residual sums stay in float32. Four convolutions outside the blocks
  contribute most of the rounding error and use float32: the first, the one after the blocks, the
  first upsampling and the last. The error against float32 is 10 dB lower than with half precision
  throughout.
- With `winograd`, the dense blocks are computed by another algorithm, see `winograd.py`.
- A 3x3 convolution after nearest-neighbour upsampling by 2 or 3 reads each pixel several times. For
  each output phase (row and column modulo the factor) it equals a 2x2 convolution before
  upsampling, with 4/9 of the work.
- The layers after the blocks have up to 64 times as many pixels. They are computed in cells that
  fit the cache.

On a CPU, the form is chosen by its instruction set and measured times. Nothing is measured at run
time: the same processor always computes the same values.
"""

import logging
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from realsr.core.devices import Precision, cpu_instruction_set
from realsr.networks.rrdb import RRDB, STAGES, lrelu

logger = logging.getLogger("realsr")

HALO = 2  # LR pixels around a cell that its upsampled pixels depend on, at every scale
CELL_CPU, CELL_CUDA = 64, 512  # LR pixels per side that fit a cache, and that occupy a GPU


class Form(NamedTuple):
    """Arguments of `FastRRDB`."""

    half: torch.dtype | None
    winograd: bool

    def __str__(self) -> str:
        dtype = str(self.half or torch.float32).removeprefix("torch.")
        return dtype + ", dense blocks in float32 by Winograd F(4x4, 3x3)" * self.winograd


DIRECT, WINOGRAD = Form(None, False), Form(None, True)
DIRECT_BF16, WINOGRAD_BF16 = Form(torch.bfloat16, False), Form(torch.bfloat16, True)

# CPU time relative to `DIRECT`, measured by experiments/benchmarks/rrdb_times.py with the published
# DF2K on 2026-11-28. In all forms, PSNR to HR is within 0.01 dB of float32.
TIMES: dict[str, dict[Form, float]] = {
    "avx2": {DIRECT: 1.0, WINOGRAD: 0.42},
    "avx512": {DIRECT: 1.0, WINOGRAD: 0.44},
    "avx512_bf16": {DIRECT: 1.0, WINOGRAD: 0.44, DIRECT_BF16: 0.54, WINOGRAD_BF16: 0.41},
}


def choose_form(network: RRDB, precision: Precision, automatic: bool) -> Form:
    """Return the fastest form of a network by `TIMES`.

    precision: bf16 or float32 on a CPU. automatic: allow float32 instead of bf16.
    """
    direct = Form(precision.half, False)
    if precision.device.type != "cpu":
        return direct
    times = TIMES.get(cpu_instruction_set(), {})
    forms = [form for form in times if automatic or form.half == precision.half]
    form = min(forms, key=times.__getitem__, default=direct)
    if not form.winograd:
        return form
    suits = _import_suits()
    if suits and suits(network):
        return form
    forms = [form for form in forms if not form.winograd]
    return min(forms, key=times.__getitem__, default=direct)


@cache  # so that the advice is logged once per process
def _import_suits() -> Callable[[RRDB], bool] | None:
    """Return `winograd.suits`; without a usable numba, log advice and return None."""
    try:
        from realsr.inference.winograd import suits
    except ImportError as error:
        times = TIMES[cpu_instruction_set()]
        direct = min(time for form, time in times.items() if not form.winograd)
        logger.info(
            "upscaling on this CPU is about %.1f times as fast with numba: %s",
            direct / min(times.values()),
            f"it is installed, but cannot be imported ({error})"
            if find_spec("numba")
            else "pip install 'realsr[fast]'",
        )
        return None
    return suits


class FastRRDB(RRDB):
    """An RRDB for inference only, of the weights of a network and on the same device.

    half: the precision of most convolutions; None for float32.
    winograd: whether to compute the dense blocks in float32 by `WinogradTrunk`, on the CPU.
    cell: the side, in LR pixels, of the parts that are upsampled at a time; None for the device's
    default.
    """

    def __init__(
        self,
        network: RRDB,
        half: torch.dtype | None,
        winograd: bool = False,
        cell: int | None = None,
    ) -> None:
        with torch.device("meta"):
            super().__init__(network.scale, *network.size)
        self.load_state_dict(network.state_dict(), assign=True)
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.dtype = half or torch.float32
        self.cell = cell or (CELL_CUDA if self.conv_first.weight.is_cuda else CELL_CPU)
        if cell is None and self.scale > 4:  # no more pixels than at scale 4
            self.cell = 4 * self.cell // self.scale
        if winograd:
            from realsr.inference.winograd import WinogradTrunk  # numba is optional

            self.add_module("RRDB_trunk", WinogradTrunk(network))
        self.RRDB_trunk.to(self.dtype)
        self.HRconv.to(self.dtype)
        self.upsamplings = [
            _fold_upsampling(conv, factor, self.dtype if stage else torch.float32)
            for stage, (factor, conv) in enumerate(
                zip(STAGES[self.scale], self.upconvs(), strict=True)
            )
        ]

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Upscale images (N,3,h,w), 0..1, to (N,3,h*scale,w*scale), float32, not clamped."""
        return super().forward(x.contiguous(memory_format=torch.channels_last))

    def upsample(self, y: Tensor) -> Tensor:
        """Apply the layers after the trunk: (N,features,h,w) -> (N,3,h*scale,w*scale)."""
        (count, _, height, width), scale = y.shape, self.scale
        sr = torch.empty(count, 3, scale * height, scale * width, device=y.device)
        cells = product(_cells(height, self.cell, scale), _cells(width, self.cell, scale))
        for (rows, inner_rows, sr_rows), (columns, inner_columns, sr_columns) in cells:
            cell = y[:, :, rows, columns]
            for weights, bias in self.upsamplings:
                cell = _apply_stage(cell, weights, bias)
            cell = self.conv_last(lrelu(self.HRconv(cell.to(self.dtype))).float())
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
