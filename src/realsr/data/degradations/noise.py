"""Noise injection (Ji et al. 2020): noise patches of source photos are added to LR."""

from collections.abc import Mapping
from typing import Literal

import cv2
import numpy as np
from torch import Tensor

from realsr.data.cache import Images
from realsr.data.degradations.degradation import OnlineDegradation, to_images

Match = Literal["random", "brightness"]
BIN = 16  # levels of 255 in a bin of patches
_BLUR = 5  # pixels; the box over which the brightness of LR is averaged


class Noise(OnlineDegradation):
    """Adds crops of noise patches to the pair's LR. No patches leave LR unchanged.

    match: `random`: one random patch for the whole crop; `brightness`: see `MatchedPatches`.
    patches: the noise patches of the pool.
    """

    def __init__(self, match: Match, patches: Images):
        self._patches = patches
        self._matched = MatchedPatches(patches) if match == "brightness" and len(patches) else None

    def prepare(
        self, crop: np.ndarray, margin: int, scale: int, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Return the crop as `lr` and, if there are patches, noise.

        It is a patch's crop as `noise`, or noise matched to the crop as `matched_noise`.
        """
        if self._matched is not None:
            return {"lr": crop, "matched_noise": self._matched.draw(crop, rng)}
        if not len(self._patches):
            return {"lr": crop}
        return {"lr": crop, "noise": draw_patch(self._patches, (crop.shape[0], crop.shape[1]), rng)}

    def apply(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return `lr` with noise, see `add`."""
        return self.add(to_images(batch["lr"]), batch)

    def add(self, lr: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Add `noise` - its mean per image and channel (eq. 5) to LR in place; clamp, do not round.

        lr: (N, 3, h, w). `matched_noise` is added as it is.
        """
        if "noise" in batch:
            noise = to_images(batch["noise"])
            lr = lr.add_(noise).sub_(noise.mean(dim=(2, 3), keepdim=True)).clamp_(0, 1)
        if "matched_noise" in batch:
            lr = lr.add_(batch["matched_noise"].permute(0, 3, 1, 2)).clamp_(0, 1)
        return lr


class MatchedPatches:
    """Noise patches in bins of brightness, for noise that depends on the brightness of an image.

    A bin holds the patches whose mean luma is in a range of 16 levels. Between the mean levels of
    two adjacent bins, crops a and b of a patch of each are mixed: sqrt(w) a + sqrt(1 - w) b, with w
    linear in the brightness of LR. The crops are independent, so that the variance of the noise
    changes linearly from one bin to the next. Beyond the first and the last bin it is constant.
    """

    def __init__(self, patches: Images):
        means = np.array([to_luma(patches[i][::4, ::4]).mean() for i in range(len(patches))])
        numbers = (means / BIN).astype(int)
        self._patches = patches
        self._bins = [np.flatnonzero(numbers == number) for number in np.unique(numbers)]
        self._levels = np.array([means[members].mean() for members in self._bins])

    def draw(self, image_uint8: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return noise (h, w, 3) float32, image range 0..1, for an image (h, w, 3) uint8."""
        luma = cv2.blur(to_luma(image_uint8).astype(np.float32), (_BLUR, _BLUR))
        positions = np.interp(luma, self._levels, np.arange(len(self._levels)))
        noise = np.zeros(image_uint8.shape, np.float32)
        for number, members in enumerate(self._bins):
            weights = np.clip(1 - np.abs(positions - number), 0, 1).astype(np.float32)
            if weights.any():
                patch = self._patches[int(members[rng.integers(len(members))])]
                noise += np.sqrt(weights)[..., None] * centre(cut_patch(patch, luma.shape, rng))
        return noise


def to_luma(image_uint8: np.ndarray) -> np.ndarray:
    """Convert RGB (h, w, 3) to luma (h, w), ITU-R 601, both 8 bit."""
    return cv2.cvtColor(np.ascontiguousarray(image_uint8), cv2.COLOR_RGB2GRAY)


def centre(patch_uint8: np.ndarray) -> np.ndarray:
    """Return a patch's crop (h, w, 3) float32 minus its channel means (Ji et al. 2020, eq. 5)."""
    return (patch_uint8 - np.array(cv2.mean(patch_uint8)[:3], np.float32)) / np.float32(255)


def draw_patch(patches: Images, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw a crop (h, w, 3) uint8 of a random noise patch; a smaller patch is mirrored."""
    return cut_patch(patches[int(rng.integers(len(patches)))], size, rng)


def cut_patch(patch: np.ndarray, size: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Cut a random crop (h, w, 3) uint8 from a noise patch; a smaller patch is mirrored."""
    (height, width), (rows, columns) = size, patch.shape[:2]
    below, after = max(0, height - rows), max(0, width - columns)
    if below or after:
        patch = np.pad(patch, ((0, below), (0, after), (0, 0)), mode="symmetric")
    top = int(rng.integers(rows + below - height + 1))
    left = int(rng.integers(columns + after - width + 1))
    return patch[top : top + height, left : left + width]
