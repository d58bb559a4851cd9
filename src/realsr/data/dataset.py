"""Training batches as a pure function of the step, whatever the resumption and worker count."""

from collections.abc import Callable, Mapping
from math import prod

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from realsr.core.errors import UserError
from realsr.core.seeding import numpy_generator
from realsr.data.cache import PairImages
from realsr.data.degradations.degradation import OnlineDegradation, try_degradation

Layout = Mapping[str, tuple[tuple[int, ...], torch.dtype]]
"""Shape and type of each tensor of a batch by name; floats first, to align them to 4 bytes."""


class Batch(dict[str, Tensor]):
    """Tensors by name in one block of memory, which is sent between processes as a whole.

    memory: uint8, divided into the tensors of `layout`.
    """

    def __init__(self, memory: Tensor, layout: Layout):
        parts = memory.split(_count_bytes(layout))
        super().__init__(
            {
                key: part.view(dtype).view(shape)
                for (key, (shape, dtype)), part in zip(layout.items(), parts, strict=True)
            }
        )
        self.memory, self.layout = memory, layout

    def __reduce__(self) -> tuple[Callable[..., "Batch"], tuple[object, ...]]:
        return Batch, (self.memory, self.layout)


class CropDataset(Dataset[Batch]):
    """Item k is the batch of step k + 1: crops, flipped, rotated and prepared by the degradation.

    Sample n belongs to item n // batch. Each epoch is one permutation of the pairs. The random
    numbers of sample n depend on (seed, n) only, in this order: position of the crop, its flip and
    rotation, the degradation. The margin around a crop is flipped and rotated with it. For a
    degradation of HR, it holds real pixels where the image is large enough, else mirrored pixels.

    Args:
        images: the decoded pairs to train on, each with room for a crop.
        batch: samples per step, in all processes together.
        crop: side of the HR crop, a multiple of scale.
        degradation: computes LR from a crop of LR or of HR.
        part, parts: index of this process's share of each batch, and the number of equal shares.

    Raises:
        UserError, ImageError: as `try_degradation`.
    """

    def __init__(
        self,
        images: PairImages,
        batch: int,
        crop: int,
        scale: int,
        degradation: OnlineDegradation,
        seed: int,
        part: int = 0,
        parts: int = 1,
    ):
        if crop % scale:
            raise ValueError(f"crop {crop} is not a multiple of the scale {scale}")
        if batch % parts or not 0 <= part < parts:
            raise ValueError(
                f"part {part} of {parts}: expected 0 <= part < parts and a batch ({batch}) "
                "divisible by parts"
            )
        self._images, self._batch, self._degradation, self._seed = images, batch, degradation, seed
        self._crop, self._size, self._scale = crop, crop // scale, scale
        self._share = batch // parts
        self._first = part * self._share
        self._epoch, self._order = -1, np.arange(0)
        arrays = {"hr": np.empty((crop, crop, 3), np.uint8)}
        arrays |= try_degradation(degradation, crop, scale)
        self._layout = {
            key: ((self._share, *array.shape), dtype)
            for dtype in (torch.float32, torch.uint8)
            for key, array in arrays.items()
            if (array.dtype == np.float32) == (dtype == torch.float32)
        }

    @property
    def batch_bytes(self) -> int:
        """Memory of one item in bytes."""
        return sum(_count_bytes(self._layout))

    def __getitem__(self, step: int) -> Batch:
        """Return `hr` (n, crop, crop, 3) uint8 and n of each array of the degradation's `prepare`."""
        memory = torch.empty(self.batch_bytes, dtype=torch.uint8)
        if get_worker_info() is not None:
            # Here and not in DataLoader's queue, which loses an error, and the batch with it.
            memory.share_memory_()
        batch = Batch(memory, self._layout)
        arrays = {key: tensor.numpy() for key, tensor in batch.items()}
        first = step * self._batch + self._first
        for index in range(self._share):
            self._fill(first + index, {key: array[index] for key, array in arrays.items()})
        return batch

    def _fill(self, number: int, out: Mapping[str, np.ndarray]) -> None:
        rng = numpy_generator(self._seed, "sample", number)
        lr, hr = self._images[self._pair_of(number)]
        margin, scale = self._degradation.margin, self._scale
        of_hr = self._degradation.reads == "hr"
        room = -(-margin // scale) if of_hr else 0
        top, left = (self._draw_place(side, room, rng) for side in lr.shape[:2])
        symmetry = int(rng.integers(8))
        _apply_symmetry(
            hr[top * scale : top * scale + self._crop, left * scale : left * scale + self._crop],
            symmetry,
            out["hr"],
        )
        image, step, side = (hr, scale, self._crop) if of_hr else (lr, 1, self._size)
        region = cut_mirrored(
            image, top * step - margin, left * step - margin, side + 2 * margin, side + 2 * margin
        )
        arrays = self._degradation.prepare(_apply_symmetry(region, symmetry), margin, scale, rng)
        for key, place in out.items():
            if key == "hr":
                continue
            array = arrays.get(key)
            if array is None or array.shape != place.shape or array.dtype != place.dtype:
                result = "no" if array is None else f"{array.shape} {array.dtype} for"
                raise UserError(
                    f"{type(self._degradation).__name__}.prepare returned {result} {key}, unlike "
                    "before: expected the same names, shapes and types for all crops"
                )
            place[:] = array

    def _draw_place(self, side: int, room: int, rng: np.random.Generator) -> int:
        """Draw a crop's first LR row or column, with `room` pixels around the crop if possible."""
        room = room if side >= self._size + 2 * room else 0
        return room + int(rng.integers(side - self._size - 2 * room + 1))

    def _pair_of(self, number: int) -> int:
        epoch, position = divmod(number, len(self._images))
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = numpy_generator(self._seed, "epoch", epoch).permutation(len(self._images))
        return int(self._order[position])


def cut_mirrored(image: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    """Cut a rectangle from an image, which is mirrored beyond its edges (edge pixel repeated)."""
    inside = image[max(top, 0) : top + height, max(left, 0) : left + width]
    below, after = top + height - image.shape[0], left + width - image.shape[1]
    borders = max(-top, 0), max(below, 0), max(-left, 0), max(after, 0)
    return cv2.copyMakeBorder(inside, *borders, cv2.BORDER_REFLECT) if any(borders) else inside


def _apply_symmetry(image: np.ndarray, symmetry: int, out: np.ndarray | None = None) -> np.ndarray:
    """Apply one of the 8 symmetries of a square: an optional transposition, then 0 to 2 flips.

    OpenCV copies whole pixels; NumPy copies channel by channel, 4 to 30 times as slowly.
    """
    if symmetry & 4:
        image = cv2.transpose(image)
    if symmetry & 3:
        return cv2.flip(image, (symmetry & 3) - 2, out)
    if out is None:
        return image
    out[:] = image
    return out


def _count_bytes(layout: Layout) -> list[int]:
    return [prod(shape) * dtype.itemsize for shape, dtype in layout.values()]
