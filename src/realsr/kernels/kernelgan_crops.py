"""Where KernelGAN looks: crops drawn with probability proportional to local gradient strength.

Flat areas say nothing about blur. Drawing all crops in advance makes the sampling one vectorised call.
"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

SAMPLED = 1_000_000  # pixels that tell the percentile of a large photo


def interest_map(gray: np.ndarray, crop: int) -> np.ndarray:
    """Return (H, W) float64 >= 0: how much there is to see in a crop centred at each pixel.

    Gradients in x, y and their magnitude, each zeroed below its 97th percentile and clipped just above,
    normalised and added, then box-blurred over half the crop. gray: (H, W), any range.
    """
    gray = gray.astype(np.float32, copy=False)
    gradients = [np.abs(gradient) for gradient in np.gradient(gray)]
    gradients.append(np.hypot(*gradients))
    total = np.zeros(gray.shape, dtype=np.float64)
    step = int(max(1, (gray.size / SAMPLED) ** 0.5))
    for gradient in gradients:
        strong = gradient > np.percentile(gradient[::step, ::step], 97)
        # Clipped just above the percentile all that is left of a gradient is where it is strong.
        total += strong / max(strong.sum(), 1)
    return ndimage.uniform_filter(total, crop // 2, mode="constant").clip(min=0)


def draw_crops(
    interest: np.ndarray,
    photo_shape: tuple[int, int],
    crop: int,
    count: int,
    frame: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw `count` top-left corners (count, 2) of crops, even, inside the photo less a frame.

    interest: (h, w) map of the photo or of the photo at a lower resolution; its pixels are the crops' centres.
    """
    height, width = photo_shape
    step = height / interest.shape[0], width / interest.shape[1]
    weights = interest.ravel()
    if not weights.sum() > 0:  # a photo without any gradient: every place is as good
        weights = np.ones_like(weights)
    chosen = rng.choice(weights.size, size=count, p=weights / weights.sum())
    corners = np.stack(np.unravel_index(chosen, interest.shape), axis=1) * np.array(step) - crop / 2
    # An even corner keeps a crop of the photo at half size equal to the half-size of a crop.
    first = frame + frame % 2
    last = [(size - crop - frame) // 2 * 2 for size in (height, width)]
    return np.clip(np.round(corners / 2).astype(np.int64) * 2, first, last)


class CropSource:
    """Photos of any sizes on a device, from which their crops are cut many at a time.

    photos: each a (3, H, W) tensor and its crops' corners (iterations, 2).
    """

    def __init__(self, photos: Sequence[tuple[Tensor, np.ndarray]], size: int, device: torch.device):
        self._size = size
        self._photos = [(pixels.to(device), torch.from_numpy(corners).to(device)) for pixels, corners in photos]

    def cut(self, start: int, count: int) -> Tensor:
        """Return the crops of `count` iterations: (count, B, 3, size, size)."""
        return torch.stack([self._cut(pixels, corners[start : start + count]) for pixels, corners in self._photos], 1)

    def _cut(self, pixels: Tensor, corners: Tensor) -> Tensor:
        channels, height, width = pixels.shape
        steps = torch.arange(self._size, device=pixels.device)
        planes = torch.arange(channels, device=pixels.device)[:, None, None] * (height * width)
        offsets = planes + steps[:, None] * width + steps
        first = corners[:, 0] * width + corners[:, 1]
        return pixels.flatten()[first[:, None, None, None] + offsets]
