"""What varies from one look at a photo to the next: noise and JPEG, put on the LR image while training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import torch
from torch import Tensor

from realsr.core.errors import UserError
from realsr.core.ranges import Range
from realsr.data.cache import DecodedImages, Images


@dataclass
class LookConfig:
    """What is put on LR images after the pool's noise: JPEG of a quality drawn from a range."""

    jpeg_quality: list[Annotated[int, Range(1, 100)]] | None = None

    def __post_init__(self) -> None:
        """Raise UserError for what is no range of qualities."""
        check_quality(self.jpeg_quality)


def check_quality(jpeg_quality: Sequence[int] | None) -> None:
    """Raise UserError unless this is None, or the lowest and the highest quality."""
    if jpeg_quality is not None and (len(jpeg_quality) != 2 or not 1 <= jpeg_quality[0] <= jpeg_quality[1] <= 100):
        raise UserError(f"look.jpeg_quality={list(jpeg_quality)}: expected [lowest,highest] between 1 and 100")


class Look:
    """Puts the camera's look on LR images.

    Args:
        noise: noise patches of the pool, as files or decoded; none for no noise.
        jpeg_quality: lowest and highest quality; None for no JPEG.
    """

    def __init__(self, noise: Sequence[Path] | Images = (), jpeg_quality: Sequence[int] | None = None):
        check_quality(jpeg_quality)
        self.patches: Images = DecodedImages(noise) if isinstance(noise, Sequence) else noise
        self.jpeg_quality = jpeg_quality

    def __call__(self, lr: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Map LR (h, w, 3) float32 in 0..1 to the same with noise and JPEG, clamped to 0..1."""
        if self.jpeg_quality is not None:
            return self.compressed(lr, rng).astype(np.float32) / 255
        return self._noisy(lr, rng).astype(np.float32)

    def compressed(self, lr: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Map LR (h, w, 3) float32 in 0..1 to what JPEG makes of it with noise, uint8; the grid is at its corner."""
        assert self.jpeg_quality is not None
        lowest, highest = self.jpeg_quality
        levels = np.rint(self._noisy(lr, rng).clip(0, 1) * 255).astype(np.uint8)
        return compress(levels, int(rng.integers(lowest, highest + 1)))

    def draw_patch(self, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        """Draw a crop (h, w, 3) uint8 of one of the noise patches; its mean is still in it."""
        return cut_patch(self.patches[int(rng.integers(len(self.patches)))], size, rng)

    def _noisy(self, lr: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if not len(self.patches):
            return lr
        return (lr + centre(self.draw_patch((lr.shape[0], lr.shape[1]), rng))).clip(0, 1)


def cut_patch(patch_uint8: np.ndarray, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Cut a random crop (h, w, 3) out of a noise patch; one that is smaller is continued by mirroring."""
    missing = [max(0, side - have) for side, have in zip(size, patch_uint8.shape[:2], strict=True)]
    if any(missing):
        patch_uint8 = np.pad(patch_uint8, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
    top, left = (int(rng.integers(have - side + 1)) for side, have in zip(size, patch_uint8.shape[:2], strict=True))
    return patch_uint8[top : top + size[0], left : left + size[1]]


def centre(patch_uint8: np.ndarray) -> np.ndarray:
    """Return noise (h, w, 3) float32: a patch's crop minus its per-channel mean (Ji et al. 2020, eq. 5)."""
    return (patch_uint8 - np.array(cv2.mean(patch_uint8)[:3], np.float32)) / np.float32(255)


def unpack(batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Turn a batch of `CropDataset`, on any device, into what the networks take, with the noise put on.

    `lr` (N, h, w, 3), `hr` (N, s h, s w, 3) and `noise`, if any, of LR's shape: uint8. Returns LR and HR as
    (N, 3, h, w) float32, channels last, 0..1. Noise is a patch's crop minus its mean (Ji et al. 2020, eq. 5), per image
    and channel; LR is clamped, and not rounded to 8 bits.
    """
    lr, hr = _scaled(batch["lr"]), _scaled(batch["hr"])
    if "noise" in batch:
        noise = _scaled(batch["noise"])
        lr = lr.add_(noise).sub_(noise.mean(dim=(2, 3), keepdim=True)).clamp_(0, 1)
    return lr, hr


def _scaled(images_uint8: Tensor) -> Tensor:
    # Seen as N, C, H, W, the images are channels last as they lie; torch keeps that order in the result.
    return images_uint8.permute(0, 3, 1, 2).to(torch.float32).div_(255)


def compress(image_uint8: np.ndarray, quality: int) -> np.ndarray:
    """Send an image (h, w, 3) uint8 through JPEG of a quality (4:2:0, as cameras and the web do)."""
    image_bgr = cv2.cvtColor(image_uint8, cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert decoded is not None
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
