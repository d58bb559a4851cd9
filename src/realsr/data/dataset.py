"""Training samples as a pure function of their number, so that resuming and worker count change nothing."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from realsr.data.look import Look
from realsr.data.pairs import Pair
from realsr.imaging import read_uint8
from realsr.seeding import numpy_generator


class CropDataset(Dataset[dict[str, Tensor]]):
    """Sample n: a crop of a pair, flipped and rotated, its LR seen with a look.

    Pair order is one permutation an epoch; all chance of sample n comes from (seed, n).

    Args:
        pairs: the pairs to train on.
        crop: side of the HR crop, a multiple of scale.
        look: what is put on the LR crop after flips and rotations.
        cache_bytes: decoded images are kept in memory until they take this much.
    """

    def __init__(self, pairs: Sequence[Pair], crop: int, scale: int, look: Look, seed: int, cache_bytes: int = 2**30):
        if crop % scale:
            raise ValueError(f"crop {crop} is not a multiple of the scale {scale}")
        self._pairs, self._crop, self._scale, self._look, self._seed = pairs, crop, scale, look, seed
        self._cache: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._cache_left = cache_bytes
        self._epoch, self._order = -1, np.arange(0)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        """Return `lr` (3, crop/scale, crop/scale) and `hr` (3, crop, crop), float32 in 0..1."""
        rng = numpy_generator(self._seed, "sample", number)
        lr, hr = self._images(self._pair_of(number))
        size = self._crop // self._scale
        top, left = (int(rng.integers(side - size + 1)) for side in lr.shape[:2])
        lr = lr[top : top + size, left : left + size]
        top, left = top * self._scale, left * self._scale
        hr = hr[top : top + self._crop, left : left + self._crop]
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        lr, hr = (_turn(image, turns, flip).astype(np.float32) / 255 for image in (lr, hr))
        return {"lr": _to_tensor(self._look(lr, rng)), "hr": _to_tensor(hr)}

    def _pair_of(self, number: int) -> int:
        epoch, position = divmod(number, len(self._pairs))
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = numpy_generator(self._seed, "epoch", epoch).permutation(len(self._pairs))
        return int(self._order[position])

    def _images(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if index in self._cache:
            return self._cache[index]
        images = read_uint8(self._pairs[index].lr), read_uint8(self._pairs[index].hr)
        size = sum(image.nbytes for image in images)
        if size <= self._cache_left:
            self._cache[index] = images
            self._cache_left -= size
        return images


class CountingSampler(Sampler[int]):
    """Sample numbers from the first one still to be seen to the last one of the training."""

    def __init__(self, first: int, stop: int):
        self._numbers = range(first, stop)

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers in order."""
        return iter(self._numbers)

    def __len__(self) -> int:
        """Count the numbers."""
        return len(self._numbers)


def load_batches(
    dataset: CropDataset, first_step: int, last_step: int, batch: int, workers: int
) -> DataLoader[dict[str, Tensor]]:
    """Return the batches of the steps from first_step to before last_step: a dict of (N, 3, side, side)."""
    sampler = CountingSampler(first_step * batch, last_step * batch)
    pinned = torch.cuda.is_available()
    return DataLoader(dataset, batch_size=batch, sampler=sampler, num_workers=workers, pin_memory=pinned)


def _turn(image: np.ndarray, turns: int, flip: bool) -> np.ndarray:
    image = np.rot90(image, turns)
    return image[:, ::-1] if flip else image


def _to_tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
