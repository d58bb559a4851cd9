"""Positions of a photo's tiles, and their size for the free memory."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode

from realsr.core.errors import UserError
from realsr.core.machine import free_memory
from realsr.inference.model import SRModel

OVERLAP = 96
"""LR pixels that neighbouring tiles share by default; see experiments/tile_overlap."""

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
    overlap: int = OVERLAP

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


def choose_tiles(
    model: SRModel, size: int | None = None, overlap: int = OVERLAP
) -> Callable[[int, int], Tiles]:
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
