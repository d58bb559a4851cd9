"""How large the tiles may be for the memory that is free, and what it looks like when they were too large."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode

from realsr.core.memory import free_memory
from realsr.inference.model import SRModel
from realsr.inference.plan import OVERLAP, Tiles, smallest_size

PROBE = 64
SHARE = 0.6  # of the free memory; the rest is for the photo, its file, and other programs
SCRATCH = 2.0  # convolutions take memory of their own: up to 0.7 of the tensors, measured on the CPU in float32
LARGEST_CPU, LARGEST_CUDA = 512, 1024  # LR pixels a side: beyond, only the overlap's share of the time still falls
UNKNOWN = 4 * 1024**3  # what is taken to be free where the system does not tell


def measure_bytes(model: SRModel) -> float:
    """Return the most memory that a model's tensors take at once, in bytes per LR pixel, by enlarging a small tile."""
    if model.bytes_per_pixel is not None:
        return model.bytes_per_pixel
    probe = torch.rand(1, 3, PROBE, PROBE, device=model.device)
    with torch.no_grad():
        if model.device.type == "cuda":
            model.run(probe)  # what is set up once does not count
            before = torch.cuda.memory_allocated(model.device)
            torch.cuda.reset_peak_memory_stats(model.device)
            model.run(probe)
            taken = torch.cuda.max_memory_allocated(model.device) - before
        else:
            with _TensorPeak() as tensors:
                model.run(probe)
            taken = tensors.peak
    return max(1, taken) / PROBE**2


def fit_tiles(model: SRModel, bytes_per_pixel: float, width: int, overlap: int = OVERLAP) -> Tiles:
    """Return the largest tiles that are worth it and fit the memory that is free now.

    Args:
        model: what they are for.
        bytes_per_pixel: what `measure_bytes` said of it.
        width: of the photo in LR pixels, of which a band is held besides the tile.
        overlap: as in `Tiles`.
    """
    free = free_memory(model.device)
    budget = SHARE * (UNKNOWN if free is None else free)
    tile = SCRATCH * bytes_per_pixel
    band = 20 * model.scale**2 * width  # three float32, their samples and what passes on to the next band, a row
    size = (math.sqrt(band**2 + 4 * tile * budget) - band) / (2 * tile)
    largest = LARGEST_CUDA if model.device.type == "cuda" else LARGEST_CPU
    smallest = smallest_size(overlap)
    return Tiles(max(smallest, min(largest, int(size) // 16 * 16)), overlap)


def choose_tiles(model: SRModel, size: int | None = None, overlap: int = OVERLAP) -> Callable[[int], Tiles]:
    """Return how to cut a photo of a given width: in tiles of a size, or (None) as `fit_tiles` says.

    Raises UserError for a size that does not suit the overlap.
    """
    if size is not None:
        tiles = Tiles(size, overlap)
        return lambda width: tiles
    bytes_per_pixel = measure_bytes(model)
    return lambda width: fit_tiles(model, bytes_per_pixel, width, overlap)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory does not suffice, on the CPU or a GPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    words = (
        "can't allocate memory", "cannot allocate memory", "not enough memory", "out of memory", "alloc_failed",
        "failed to allocate memory", "bad_alloc",
    )  # fmt: skip
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)


class _TensorPeak(TorchFunctionMode):
    """Adds up what the results of torch's functions hold, as long as they live; `peak` is the most in bytes."""

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
