"""Noise injection (Ji et al. 2020): noise patches of source photos are added to LR."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from torch import Tensor

from realsr.data.cache import Images
from realsr.data.degradations.degradation import to_images


class Noise:
    """Adds a random crop of a random noise patch to the pair's LR. No patches leave LR unchanged.

    patches: the noise patches of the pool.
    """

    reads: Literal["lr", "hr"] = "lr"
    margin = 0

    def __init__(self, patches: Images):
        self._patches = patches

    def prepare(
        self, crop: np.ndarray, margin: int, scale: int, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Return the crop as `lr` and, if there are patches, a patch's crop as `noise`."""
        if not len(self._patches):
            return {"lr": crop}
        return {"lr": crop, "noise": draw_patch(self._patches, (crop.shape[0], crop.shape[1]), rng)}

    def apply(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return `lr` + `noise` - its mean per image and channel (eq. 5), clamped, not rounded."""
        lr = to_images(batch["lr"])
        if "noise" in batch:
            noise = to_images(batch["noise"])
            lr = lr.add_(noise).sub_(noise.mean(dim=(2, 3), keepdim=True)).clamp_(0, 1)
        return lr


def draw_patch(patches: Images, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw a crop (h, w, 3) uint8 of a random noise patch; a smaller patch is mirrored."""
    patch = patches[int(rng.integers(len(patches)))]
    missing = [
        max(0, side - available) for side, available in zip(size, patch.shape[:2], strict=True)
    ]
    if any(missing):
        patch = np.pad(patch, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
    top, left = (
        int(rng.integers(available - side + 1))
        for side, available in zip(size, patch.shape[:2], strict=True)
    )
    return patch[top : top + size[0], left : left + size[1]]
