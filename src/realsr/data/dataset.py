"""Training batches as a pure function of the step, so that resuming and worker count change nothing."""

from collections.abc import Callable, Mapping
from math import prod

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from realsr.core.seeding import numpy_generator
from realsr.data.cache import PairImages
from realsr.data.online_degradation import Look

MCU = 16  # JPEG's blocks with 4:2:0 colour: 16 x 16 pixels


class Batch(dict[str, Tensor]):
    """Tensors by name that lie in one piece of memory, so that they travel between processes as one.

    Handing over a piece of memory takes longer than filling it. The shapes tell how `memory`, bytes, is divided.
    """

    def __init__(self, memory: Tensor, shapes: Mapping[str, tuple[int, ...]]):
        parts = memory.split([prod(shape) for shape in shapes.values()])
        super().__init__({key: part.view(shape) for (key, shape), part in zip(shapes.items(), parts, strict=True)})
        self.memory, self.shapes = memory, shapes

    def __reduce__(self) -> tuple[Callable[..., "Batch"], tuple[object, ...]]:
        return Batch, (self.memory, self.shapes)


class CropDataset(Dataset[Batch]):
    """Item k is the batch of step k + 1: crops of pairs, flipped and rotated, 8 bits a channel.

    Sample n is of step n // batch. Pairs are shown in one permutation an epoch; all chance of sample n comes from
    (seed, n).

    Args:
        images: the decoded pairs to train on, each with room for a crop.
        batch: how many samples a step has.
        crop: side of the HR crop, a multiple of scale.
        look: what is put on the LR crop after flips and rotations.
        part, parts: this is share `part` of `parts` equal shares of each batch, for training in several processes.
    """

    def __init__(
        self,
        images: PairImages,
        batch: int,
        crop: int,
        scale: int,
        look: Look,
        seed: int,
        part: int = 0,
        parts: int = 1,
    ):
        if crop % scale:
            raise ValueError(f"crop {crop} is not a multiple of the scale {scale}")
        if batch % parts or not 0 <= part < parts:
            raise ValueError(f"part {part} of {parts}: expected equal parts of the batch of {batch}")
        self._images, self._batch, self._look, self._seed = images, batch, look, seed
        self._crop, self._size, self._scale = crop, crop // scale, scale
        self._share = batch // parts
        self._first = part * self._share
        self._epoch, self._order = -1, np.arange(0)

    @property
    def batch_bytes(self) -> int:
        """The memory of one item."""
        return sum(map(prod, self._shapes.values()))

    @property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        sides = {"lr": self._size, "hr": self._crop}
        if len(self._look.patches) and self._look.jpeg_quality is None:
            sides["noise"] = self._size
        return {key: (self._share, side, side, 3) for key, side in sides.items()}

    def __getitem__(self, step: int) -> Batch:
        """Return uint8 `lr` (n, h, h, 3) and `hr` (n, s h, s h, 3), and without JPEG `noise` (n, h, h, 3), if any.

        `unpack` makes of it what the networks take. With JPEG, noise and JPEG are in `lr` already.
        """
        memory = torch.empty(self.batch_bytes, dtype=torch.uint8)
        if get_worker_info() is not None:
            # Here, since a failure while the batch is sent would be lost, and the batch with it.
            memory.share_memory_()
        batch = Batch(memory, self._shapes)
        arrays = {key: tensor.numpy() for key, tensor in batch.items()}
        first = step * self._batch + self._first
        for index in range(self._share):
            self._fill(first + index, {key: array[index] for key, array in arrays.items()})
        return batch

    def _fill(self, number: int, out: Mapping[str, np.ndarray]) -> None:
        rng = numpy_generator(self._seed, "sample", number)
        lr, hr = self._images[self._pair_of(number)]
        size, scale = self._size, self._scale
        top, left = int(rng.integers(lr.shape[0] - size + 1)), int(rng.integers(lr.shape[1] - size + 1))
        turn = int(rng.integers(8))
        _turn(_cut(hr, top * scale, left * scale, self._crop), turn, out["hr"])
        if self._look.jpeg_quality is not None:
            out["lr"][:] = self._compressed(lr, top, left, turn, rng)
            return
        _turn(_cut(lr, top, left, size), turn, out["lr"])
        if "noise" in out:
            out["noise"][:] = self._look.draw_patch((size, size), rng)

    def _compressed(self, lr: np.ndarray, top: int, left: int, turn: int, rng: np.random.Generator) -> np.ndarray:
        """Cut the LR crop out of a region that has been turned and sent through noise and JPEG.

        A camera's JPEG lies on a grid that knows nothing of the crop. So the region, of whole blocks of the grid,
        begins 0 to 15 rows above the crop and 0 to 15 columns left of it.
        """
        size = self._size
        side = -(-size // MCU) * MCU + MCU
        margin = side - size
        # Turned with a margin on all sides, of which the region takes its part.
        wide = _turn(_cut_mirrored(lr, top - margin, left - margin, size + 2 * margin), turn)
        above, before = int(rng.integers(MCU)), int(rng.integers(MCU))
        region = _cut(wide, margin - above, margin - before, side)
        region = self._look.compressed(region.astype(np.float32) / 255, rng)
        return _cut(region, above, before, size)

    def _pair_of(self, number: int) -> int:
        epoch, position = divmod(number, len(self._images))
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = numpy_generator(self._seed, "epoch", epoch).permutation(len(self._images))
        return int(self._order[position])


def _cut(image: np.ndarray, top: int, left: int, side: int) -> np.ndarray:
    return image[top : top + side, left : left + side]


def _cut_mirrored(image: np.ndarray, top: int, left: int, side: int) -> np.ndarray:
    """Cut a square that may reach over the image's ends, where it is continued by mirroring, edge pixels repeated."""
    height, width = image.shape[:2]
    inside = image[max(top, 0) : top + side, max(left, 0) : left + side]
    missing = max(-top, 0), max(top + side - height, 0), max(-left, 0), max(left + side - width, 0)
    return cv2.copyMakeBorder(inside, *missing, cv2.BORDER_REFLECT) if any(missing) else inside


def _turn(image: np.ndarray, turn: int, out: np.ndarray | None = None) -> np.ndarray:
    """Flip and rotate an image in one of 8 ways, into `out` where given.

    Transposed or not, then flipped in none, one or both directions: these are the 8 symmetries of a square. OpenCV
    moves pixels, NumPy's views would copy channel by channel, which takes four to thirty times as long.
    """
    if turn & 4:
        image = cv2.transpose(image)
    if turn & 3:
        return cv2.flip(image, (turn & 3) - 2, out)
    if out is None:
        return image
    out[:] = image
    return out
