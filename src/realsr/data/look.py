"""What varies from one look at a photo to the next: noise and JPEG, put on the LR image while training."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from realsr.errors import UserError
from realsr.imaging import read_uint8


@dataclass
class LookConfig:
    """What is put on LR images after the pool's noise: JPEG of a quality drawn from a range."""

    jpeg_quality: list[int] | None = None


class Look:
    """Puts the camera's look on LR images.

    Args:
        noise: noise patches of the pool; none for no noise.
        jpeg_quality: lowest and highest quality; None for no JPEG.
    """

    def __init__(self, noise: Sequence[Path] = (), jpeg_quality: Sequence[int] | None = None):
        if jpeg_quality is not None and (len(jpeg_quality) != 2 or not 1 <= jpeg_quality[0] <= jpeg_quality[1] <= 100):
            raise UserError(f"look.jpeg_quality={list(jpeg_quality)}: expected [lowest,highest] between 1 and 100")
        self._patches = [read_uint8(path) for path in noise]
        self._jpeg_quality = jpeg_quality

    def __call__(self, lr: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Map LR (h, w, 3) float32 in 0..1 to the same with noise and JPEG, clamped to 0..1."""
        if self._patches:
            patch = self._patches[rng.integers(len(self._patches))]
            lr = (lr + draw_noise(patch, lr.shape[:2], rng)).clip(0, 1)
        if self._jpeg_quality is not None:
            lr = compress(lr, int(rng.integers(self._jpeg_quality[0], self._jpeg_quality[1] + 1)))
        return lr.astype(np.float32)


def draw_noise(patch_uint8: np.ndarray, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw noise (h, w, 3) float32: a random crop of a patch minus its per-channel mean (Ji et al. 2020, eq. 5).

    A patch smaller than the size is continued by mirroring.
    """
    missing = [max(0, side - have) for side, have in zip(size, patch_uint8.shape[:2], strict=True)]
    if any(missing):
        patch_uint8 = np.pad(patch_uint8, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
    top, left = (int(rng.integers(have - side + 1)) for side, have in zip(size, patch_uint8.shape[:2], strict=True))
    crop = patch_uint8[top : top + size[0], left : left + size[1]].astype(np.float32) / 255
    return crop - crop.mean(axis=(0, 1))


def compress(image: np.ndarray, quality: int) -> np.ndarray:
    """Send an image (h, w, 3) in 0..1 through JPEG of a quality (4:2:0, as cameras and the web do)."""
    image_bgr_uint8 = np.rint(image[..., ::-1].clip(0, 1) * 255).astype(np.uint8)
    encoded = cv2.imencode(".jpg", image_bgr_uint8, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded[..., ::-1].astype(np.float32) / 255
