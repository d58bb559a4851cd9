"""Upscaling of photos of any size, tile by tile, in the memory of one row of tiles."""

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode

from realsr.core.errors import UserError
from realsr.core.machine import free_memory
from realsr.imaging import resize
from realsr.inference.model import SRModel

logger = logging.getLogger("realsr")

Advance = Callable[[int], object]
_Read = Callable[[slice, slice], Tensor]  # rows, columns -> (3, h, w) float32 on the model's device

SEAMLESS_OVERLAP = 96
"""LR pixels that tiles share where a result must not depend on tiles, as in an evaluation: that of
8 bits differs by at most a level from the whole image's. See experiments/tile_overlap."""

PROBE = 64
SHARE = 0.6  # of the free memory; the rest is for the photo, its file, and other programs
# Convolutions need additional memory, up to 0.7 of that of the tensors on the CPU in float32.
SCRATCH = 2.0
# LR pixels per side; larger tiles save no time except for their smaller share of overlap.
LARGEST_CPU, LARGEST_CUDA = 512, 1024
UNKNOWN = 4 * 1024**3  # bytes assumed to be free if the system does not report them
OUT_OF_MEMORY = (
    "can't allocate memory", "cannot allocate memory", "not enough memory", "out of memory", "alloc_failed",
    "failed to allocate memory", "bad_alloc",
)  # fmt: skip


def smallest_size(overlap: int) -> int:
    """Return the smallest tile size that allows blending with neighbours on both sides."""
    return 2 * overlap + 8


@dataclass
class Tiles:
    """The tiles of photos: at most `size` LR pixels per side, of which neighbours share `overlap`.

    `size` is reduced when memory does not suffice, so that the next photo starts with a size that
    fits. Raises UserError for a size below `smallest_size(overlap)`.
    """

    size: int
    overlap: int

    def __post_init__(self) -> None:
        if self.size < smallest_size(self.overlap):
            raise UserError(
                f"tile={self.size} overlap={self.overlap}: tile must be at least 2*overlap + 8: "
                f"set tile={smallest_size(self.overlap)} or a smaller overlap"
            )


def place_tiles(length: int, tiles: Tiles) -> tuple[list[int], int]:
    """Return the start positions of the tiles along one side of a photo, and their common size.

    The number of tiles is the smallest that the size allows, and then their size the smallest for
    this number: a side of 260 pixels costs little more than one of 256. Tiles are spaced evenly, so
    neighbours share overlap to overlap + 2 pixels, and none is padded.
    """
    if length <= tiles.size:
        return [0], length
    count = -(-(length - tiles.overlap) // (tiles.size - tiles.overlap))
    size = -(-(length + (count - 1) * tiles.overlap) // count)
    return [i * (length - size) // (count - 1) for i in range(count)], size


def choose_tiles(model: SRModel, size: int | None, overlap: int) -> Callable[[int, int], Tiles]:
    """Return a function from a photo's height and width in LR pixels to its tiles.

    size: LR pixels per side; None for the largest useful size that fits the free memory, next to a
    band of the photo's width, when the function is called. The model's memory is measured at the
    first photo that does not fit a tile of the smallest size. Raises UserError for a size that is
    too small for the overlap.
    """
    if size is not None:
        tiles = Tiles(size, overlap)
        return lambda height, width: tiles
    smallest = smallest_size(overlap)
    bytes_per_pixel = cache(partial(measure_bytes, model))
    largest = LARGEST_CUDA if model.device.type == "cuda" else LARGEST_CPU

    def fit(height: int, width: int) -> Tiles:
        if max(height, width) <= smallest:
            return Tiles(smallest, overlap)
        tile = SCRATCH * bytes_per_pixel()
        free = free_memory(model.device)
        budget = SHARE * (UNKNOWN if free is None else free)
        # Bytes per LR row: three float32, their samples, and the rows passed on to the next band.
        band = 20 * model.scale**2 * width
        side = (math.sqrt(band**2 + 4 * tile * budget) - band) / (2 * tile)
        return Tiles(max(smallest, min(largest, int(side) // 16 * 16)), overlap)

    return fit


def measure_bytes(model: SRModel) -> float:
    """Return the peak bytes of a model's tensors per LR pixel, measured on a small tile."""
    if model.bytes_per_pixel is not None:
        return model.bytes_per_pixel
    probe = torch.rand(1, 3, PROBE, PROBE, device=model.device)
    with torch.no_grad():
        if model.device.type == "cuda":
            model.run(probe)  # the first run includes one-time allocations
            before = torch.cuda.memory_allocated(model.device)
            torch.cuda.reset_peak_memory_stats(model.device)
            model.run(probe)
            peak = torch.cuda.max_memory_allocated(model.device) - before
        else:
            with _TensorPeak() as tensors:
                model.run(probe)
            peak = tensors.peak
    return max(1, peak) / PROBE**2


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error reports insufficient memory of the CPU or a GPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error).lower() for words in OUT_OF_MEMORY
    )


class _TensorPeak(TorchFunctionMode):
    """Sums the bytes of all live results of torch's functions; `peak` is the maximum."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self._live[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self._live = {key: entry for key, entry in self._live.items() if not entry[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self._live.values()))
        return out


def upscale_bands(
    model: SRModel, samples: np.ndarray, tiles: Tiles, advance: Advance = lambda pixels: None
) -> Iterator[np.ndarray]:
    """Upscale a photo and yield the result in bands of its full width, from the top.

    Gray is upscaled as three equal channels, whose mean is the result. Alpha is upscaled separately
    by `resize`. Colours are not multiplied by alpha, so those of transparent pixels should be
    filled (`imaging.fill_transparent`).

    Args:
        model: the network, of scale s.
        samples: (H, W, C) uint8 or uint16; C is 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGBA).
        tiles: size and overlap of the tiles; the size is reduced when memory does not suffice.
        advance: called after each tile with the number of new LR pixels; they sum to H * W.

    Yields (h, s*W, C) of the same dtype, clamped and rounded half to even; the heights sum to s*H.

    Raises UserError if memory does not suffice for the smallest tiles.
    """
    height, width, channels = samples.shape
    peak = float(np.iinfo(samples.dtype).max)
    colours = 1 if channels <= 2 else 3

    def read(rows: slice, columns: slice) -> Tensor:
        tile = np.ascontiguousarray(samples[rows, columns, :colours], np.float32)
        return (torch.from_numpy(tile).to(model.device).permute(2, 0, 1) / peak).expand(3, -1, -1)

    top = 0
    for band in _upscale(model, read, height, width, tiles, advance):
        bottom = top + band.shape[1] // model.scale
        band = band if colours == 3 else band.mean(0, keepdim=True)
        parts = [_to_samples(band, peak, samples.dtype)]
        del band  # frees its memory before the next band is computed
        if channels > colours:
            alpha = _resize_rows(samples[..., -1], top, bottom, model.scale, peak)
            parts.append(_to_samples(alpha[None], peak, samples.dtype))
        yield parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)
        top = bottom


def upscale_image(model: SRModel, image: Tensor, tiles: Tiles) -> Tensor:
    """Upscale an image (3, h, w) to (3, s * h, s * w), float32, 0..1, without clamping.

    The result is on the model's device. Tiles are as in `upscale_bands`; for an image of one tile,
    the result is exactly that of the network.
    """
    _, height, width = image.shape

    def read(rows: slice, columns: slice) -> Tensor:
        return image[:, rows, columns].to(model.device)

    out = torch.empty(3, model.scale * height, model.scale * width, device=model.device)
    top = 0
    for band in _upscale(model, read, height, width, tiles, lambda pixels: None):
        out[:, top : top + band.shape[1]] = band
        top += band.shape[1]
    return out


def as_function(
    model: SRModel, tile: int | None = None, overlap: int = SEAMLESS_OVERLAP
) -> Callable[[Tensor], Tensor]:
    """Return a model as a function (3, h, w) -> (3, s * h, s * w), clamped, on the CPU.

    tile, overlap: as `size` and `overlap` in `choose_tiles`.
    """
    tiles_for = choose_tiles(model, tile, overlap)
    return lambda lr: upscale_image(model, lr, tiles_for(*lr.shape[1:])).clamp_(0, 1).cpu()


def blend_weights(size: int, before: int, after: int, scale: int) -> Tensor:
    """Return the blending weights of a tile along one side, (scale * size,) float32.

    before, after: LR pixels shared with the neighbour on that side; 0 at the photo's border, where
    the weight is 1. The weights of neighbours add up to 1. Of the shared pixels, the three eighths
    next to the tile's border have weight 0, since the network lacks context there. In the middle
    quarter the weight rises smoothly to 1.
    """
    weights = torch.ones(scale * size)
    if before:
        weights[: scale * before] = _rise(before, scale)
    if after:
        weights[scale * (size - after) :] *= 1 - _rise(after, scale)
    return weights


def _rise(overlap: int, scale: int) -> Tensor:
    """Return weights that rise over an overlap, by a raised cosine in its middle quarter."""
    cut = 3 * overlap // 8
    inner = scale * (overlap - 2 * cut)
    position = (torch.arange(scale * overlap) + 0.5 - scale * cut) / inner
    return 0.5 - 0.5 * torch.cos(math.pi * position.clamp(0, 1))


def _upscale(
    model: SRModel, read: _Read, height: int, width: int, tiles: Tiles, advance: Advance
) -> Iterator[Tensor]:
    """Yield complete bands (3, h, s * width), which the caller may overwrite."""
    scale, progress = model.scale, 0

    def report(position: int) -> None:
        """Advance to a number of LR pixels; a row that is repeated counts once."""
        nonlocal progress
        if position > progress:
            advance(position - progress)
            progress = position

    carry = torch.zeros(3, 0, scale * width, device=model.device)
    starts, rows = place_tiles(height, tiles)
    while starts:
        top, after = starts[0], starts[0] + rows - starts[1] if len(starts) > 1 else 0
        row, failure = slice(top, top + rows), ""
        try:
            band = _upscale_row(model, read, row, after, width, tiles, carry, report)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            # The exception itself would hold the memory of the failed tile.
            failure = str(error).partition("\n")[0] or "out of memory"
        if failure:
            _shrink(tiles, max(rows, place_tiles(width, tiles)[1]), failure, model.device)
            starts, rows = place_tiles(height - top, tiles)
            starts = [top + start for start in starts]
            continue
        band, carry = band.split([scale * (rows - after), scale * after], dim=1)
        carry = carry.clone()
        yield band
        del band
        starts = starts[1:]


@torch.no_grad()
def _upscale_row(
    model: SRModel,
    read: _Read,
    rows: slice,
    after: int,
    width: int,
    tiles: Tiles,
    carry: Tensor,
    report: Callable[[int], None],
) -> Tensor:
    """Return the sum of the weighted tiles of one row and of `carry`, the overlap of the row above.

    after: LR rows shared with the row below, whose contribution is still missing.
    """
    scale, height = model.scale, rows.stop - rows.start
    band = torch.zeros(3, scale * height, scale * width, device=model.device)
    band[:, : carry.shape[1]] = carry
    down = blend_weights(height, carry.shape[1] // scale, after, scale).to(model.device)[:, None]
    starts, size = place_tiles(width, tiles)
    for number, start in enumerate(starts):
        stop = start + size
        before = starts[number - 1] + size - start if number else 0
        overlap = stop - starts[number + 1] if number + 1 < len(starts) else 0
        tile = model.run(read(rows, slice(start, stop))[None])[0]
        across = blend_weights(size, before, overlap, scale).to(model.device)
        band[:, :, scale * start : scale * stop] += tile * (down * across)
        report(rows.start * width + (height - after) * (stop - overlap))
    return band


def _shrink(tiles: Tiles, size: int, failure: str, device: torch.device) -> None:
    """Halve the tiles after `size` pixels per side needed too much memory. Raises UserError."""
    smallest = smallest_size(tiles.overlap)
    if size <= smallest:
        advice = "use the CPU" if device.type == "cuda" else "use a machine with more memory"
        raise UserError(
            f"memory does not suffice for tiles of {size} pixels per side ({failure}), and overlap="
            f"{tiles.overlap} needs at least {smallest}: close other programs, {advice}, or set a "
            "smaller overlap"
        )
    tiles.size = max(smallest, size // 2)
    logger.warning(
        "memory does not suffice for tiles of %d pixels: continuing with %d", size, tiles.size
    )
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _to_samples(values: Tensor, peak: float, dtype: np.dtype) -> np.ndarray:
    """Convert (C, h, w), 0..1, in place, to (h, w, C), clamped and rounded half to even."""
    values = values.clamp_(0, 1).mul_(peak).round_().permute(1, 2, 0)
    values = values.to(torch.uint8 if dtype == np.uint8 else torch.int32)
    return values.contiguous().cpu().numpy().astype(dtype, copy=False)


def _resize_rows(plane: np.ndarray, top: int, bottom: int, scale: int, peak: float) -> Tensor:
    """Return rows scale * top to scale * bottom of a plane (H, W) upscaled by `resize`, 0..1."""
    first, last = max(0, top - 4), min(len(plane), bottom + 4)  # the cubic reads two pixels beyond
    part = torch.from_numpy(plane[first:last].astype(np.float32)) / peak
    return resize(part, factor=float(scale))[scale * (top - first) : scale * (bottom - first)]
