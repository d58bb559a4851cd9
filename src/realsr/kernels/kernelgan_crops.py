"""KernelGAN's training crops, drawn with probability proportional to local gradient strength."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from realsr.core.seeding import numpy_generator
from realsr.imaging import resize
from realsr.kernels.estimator import check_photo_size
from realsr.kernels.kernelgan_networks import D_CROP, G_CROP

PERCENTILE_PIXELS = 1_000_000  # pixels of a large photo from which the percentile is computed


@dataclass(frozen=True)
class KernelGANConfig:
    """Training of one GAN.

    border: pixels ignored at the border; 10 for synthetically degraded photos.
    average_from: the result is the mean of the kernels after this iteration; None: the last kernel.
    gan_after_start: G is trained without the GAN loss, and the schedule waits, until the sum of its
    kernel exceeds 0.5.
    """

    iterations: int
    learning_rate: float
    border: int
    average_from: int | None
    gan_after_start: bool

    @classmethod
    def published(cls, iterations: int, learning_rate: float, border: int) -> "KernelGANConfig":
        """Return a config of the paper's form."""
        return cls(iterations, learning_rate, border, average_from=None, gan_after_start=False)


@dataclass
class Photo:
    """A photo's pixels (3, H, W) uint8, and the corners (iterations, 2) of G's and D's crops."""

    pixels: Tensor
    g_crops: np.ndarray
    d_crops: np.ndarray


def prepare_photo(
    image_uint8: np.ndarray, config: KernelGANConfig, seeds: Sequence[int]
) -> list[Photo]:
    """Draw the crops of a photo (H, W, 3), once per seed; the pixels are shared.

    Raises ValueError if the photo is too small.
    """
    check_photo_size(image_uint8, G_CROP + 2 * (config.border + 1))
    pixels = torch.from_numpy(np.require(image_uint8, requirements="W")).permute(2, 0, 1)
    height, width = (size // 2 * 2 for size in pixels.shape[1:])
    pixels = pixels[:, :height, :width].contiguous()
    luma = torch.tensor([0.299, 0.587, 0.114])
    gray = sum(weight * channel for weight, channel in zip(luma, pixels, strict=True)) / 255
    half = resize(gray[None], factor=0.5)[0]
    maps = {
        G_CROP: interest_map(half.numpy(), G_CROP // 2),
        D_CROP: interest_map(gray.numpy(), D_CROP),
    }
    draw = partial(
        draw_crops, photo_shape=(height, width), count=config.iterations, border=config.border
    )
    photos = []
    for seed in seeds:
        rng = numpy_generator(seed, "crops")
        corners = [draw(interest, crop=crop, rng=rng) for crop, interest in maps.items()]
        photos.append(Photo(pixels, *corners))
    return photos


def interest_map(gray: np.ndarray, crop: int) -> np.ndarray:
    """Return the amount of detail in a crop centred at each pixel: (H, W) float64 >= 0.

    The gradients in x and y and their magnitude are each zeroed below their 97th percentile,
    clipped just above it and normalised. Their sum is box-blurred over half the crop.
    gray: (H, W), any range.
    """
    gray = gray.astype(np.float32, copy=False)
    gradients = [np.abs(gradient) for gradient in np.gradient(gray)]
    gradients.append(np.hypot(*gradients))
    total = np.zeros(gray.shape, dtype=np.float64)
    step = int(max(1, (gray.size / PERCENTILE_PIXELS) ** 0.5))
    for gradient in gradients:
        strong = gradient > np.percentile(gradient[::step, ::step], 97)
        # Clipping just above the percentile makes all strong gradients equal.
        total += strong / max(strong.sum(), 1)
    return ndimage.uniform_filter(total, crop // 2, mode="constant").clip(min=0)


def draw_crops(
    interest: np.ndarray,
    photo_shape: tuple[int, int],
    crop: int,
    count: int,
    border: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw even top-left corners (count, 2) of crops inside the photo without its border.

    interest: (h, w) probability of the crops' centres, at the photo's resolution or lower.
    """
    height, width = photo_shape
    step = height / interest.shape[0], width / interest.shape[1]
    weights = interest.ravel()
    if not weights.sum() > 0:  # a photo without any gradient
        weights = np.ones_like(weights)
    centres = rng.choice(weights.size, size=count, p=weights / weights.sum())
    positions = np.stack(np.unravel_index(centres, interest.shape), axis=1)
    corners = positions * np.array(step) - crop / 2
    # With even corners, cropping and downscaling by 2 commute.
    first = border + border % 2
    last = [(size - crop - border) // 2 * 2 for size in (height, width)]
    return np.clip(np.round(corners / 2).astype(np.int64) * 2, first, last)


def cut_crops(pixels: Tensor, corners: Tensor, size: int) -> Tensor:
    """Return the crops (N, 3, size, size) of a photo (3, H, W) at the corners (N, 2)."""
    windows = pixels.unfold(1, size, 1).unfold(2, size, 1)
    return windows[:, corners[:, 0], corners[:, 1]].transpose(0, 1)
