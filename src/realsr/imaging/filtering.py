"""Blurring with a kernel and keeping every s-th sample: the degradation's model of a camera."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from realsr.imaging.border import symmetric_index

_TAPS_AT_ONCE = 200


def apply_kernel(image: Tensor, kernel: np.ndarray | Tensor, scale: int = 1) -> Tensor:
    """Correlate with a kernel and keep samples 0, scale, 2 scale, …; the others are never computed.

    out[c, y, x] = sum over i, j of kernel[i, j] * image[c, scale y + i - k//2, scale x + j - l//2]: no
    flip, centre at index k//2 for odd and even k, symmetric border (edge pixel repeated), also for images
    smaller than the kernel. Each channel apart.

    image: (C, H, W), float32 or float64. kernel: (k, l).

    Returns (C, ceil(H / scale), ceil(W / scale)) of the image's dtype. Raises ValueError for other shapes
    or types and for a scale below 1.
    """
    weights = torch.as_tensor(kernel).to(image)
    if image.ndim != 3 or 0 in image.shape or not image.is_floating_point():
        raise ValueError(f"expected a (C, H, W) image of floats, got {tuple(image.shape)} {image.dtype}")
    if weights.ndim != 2 or 0 in weights.shape:
        raise ValueError(f"expected a (k, l) kernel, got {tuple(weights.shape)}")
    if scale < 1:
        raise ValueError(f"scale must be at least 1, got {scale}")
    padded = _pad(_pad(image, -2, weights.shape[0]), -1, weights.shape[1])[:, None]
    # One convolution over all taps of a large kernel is wrong by 1e-6 in float32, as it adds them up one
    # by one; the sum of a few bands of rows is not.
    height, rows = image.shape[-2], max(1, _TAPS_AT_ONCE // weights.shape[1])
    out = image.new_zeros(())
    for band in weights.split(rows):
        out = out + F.conv2d(padded[:, :, : height + len(band) - 1], band[None, None], stride=scale)
        padded = padded[:, :, len(band) :]
    return out[:, 0]


def _pad(image: Tensor, dim: int, taps: int) -> Tensor:
    """Extend one dimension so that a kernel of `taps` with its centre at taps//2 fits at each pixel."""
    length = image.shape[dim]
    positions = torch.arange(-(taps // 2), length + taps - 1 - taps // 2, device=image.device)
    return image.index_select(dim, symmetric_index(positions, length))
