"""MATLAB's bicubic `imresize`, the field's reference for making and undoing low resolution.

`shrink_uint8` does the same for 8-bit images and whole numbers, fast and in bounded memory.
"""

import math

import cv2
import numpy as np
import torch
from torch import Tensor

_STRIP = 64  # output rows at once, so that what is under way stays in the processor's cache


def resize(image: Tensor, factor: float | None = None, size: tuple[int, int] | None = None) -> Tensor:
    """Resize by bicubic interpolation as MATLAB's `imresize` does.

    Keys' cubic (1981) with a = -0.5, widened by 1/factor when shrinking (antialiasing), symmetric border.
    Values are neither clamped nor rounded.

    image: (..., H, W), float32 or float64, of any range.
    factor: both sides become ceil(side * factor); size: (height, width). Give exactly one of them.

    Returns (..., H', W') of the same dtype. Raises ValueError for other dtypes and unusable sizes.
    """
    if (factor is None) == (size is None):
        raise ValueError(f"give exactly one of factor and size, got factor={factor} and size={size}")
    if image.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"resize needs float32 or float64, got {image.dtype}: convert the image first")
    sides = (image.shape[-2], image.shape[-1])
    if min(sides) == 0:
        raise ValueError(f"cannot resize an image of {sides[1]}x{sides[0]} pixels")
    if factor is not None:
        if not (factor > 0 and math.isfinite(factor)):
            raise ValueError(f"factor must be positive, got {factor}")
        size, scales = (_ceil(sides[0] * factor), _ceil(sides[1] * factor)), (factor, factor)
    else:
        assert size is not None
        if min(size) < 1:
            raise ValueError(f"size must be at least (1, 1), got {size}")
        scales = (size[0] / sides[0], size[1] / sides[1])

    # The columns' pass is the slower one in memory: do it on the fewest rows.
    for dim in (-2, -1) if scales[0] < 1 else (-1, -2):
        image = _resize_dim(image, dim, size[dim], scales[dim])
    return image


def crop_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """(..., H, W) -> its top-left part whose sides are multiples of `multiple`.

    Raises ValueError if `multiple` is below 1 or a side is shorter than it.
    """
    height, width = image.shape[-2:]
    if multiple < 1 or min(height, width) < multiple:
        raise ValueError(f"cannot crop {width}x{height} pixels to a multiple of {multiple}")
    return image[..., : height - height % multiple, : width - width % multiple]


def shrink_uint8(image_uint8: np.ndarray, factor: int) -> np.ndarray:
    """Shrink by bicubic interpolation as `resize` does with 1/factor, clamped and rounded half to even.

    For factors of 2 and 4 each sum is exact, so that neither the order of summation nor the machine matters.

    image_uint8: (H, W, 3). Returns (ceil(H / factor), ceil(W / factor), 3) uint8. Raises ValueError for a factor
    below 1.
    """
    if factor < 1:
        raise ValueError(f"the factor must be 1 or more, got {factor}")
    if factor == 1:
        return image_uint8
    height, width = (-(-side // factor) for side in image_uint8.shape[:2])
    out = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _STRIP):
        bottom = min(top + _STRIP, height)
        out[top:bottom] = _shrink_rows(image_uint8, top, bottom, factor)
    return out


def symmetric_index(index: Tensor, length: int) -> Tensor:
    """Map integer positions outside 0..length-1 to the pixels that they mirror (… 1 0 | 0 1 2 … | n-1 …)."""
    index = index.remainder(2 * length)
    return index.where(index < length, 2 * length - 1 - index)


def _ceil(length: float) -> int:
    # The small step is for factors such as 0.07: 100 * 0.07 is 7.000000000000001 and means 7.
    return max(1, math.ceil(length - 1e-9 * max(1.0, length)))


def _resize_dim(image: Tensor, dim: int, length: int, scale: float) -> Tensor:
    """out[i] = sum over t of weights[t, i] * image[index[t, i]], along one dimension."""
    if length == image.shape[dim] and scale == 1:
        return image
    index, weights = _taps(image.shape[dim], length, scale)
    index, weights = index.to(image.device), weights.to(image)
    if dim == -2:
        weights = weights[..., None]
    out = image.index_select(dim, index[0]) * weights[0]
    for tap_index, tap_weights in zip(index[1:], weights[1:], strict=True):
        out.addcmul_(image.index_select(dim, tap_index), tap_weights)
    return out


def _taps(in_length: int, out_length: int, scale: float) -> tuple[Tensor, Tensor]:
    """Source indices (T, out_length) and their float64 weights, which sum to 1 over T."""
    shrink = min(scale, 1.0)
    width = 4 / shrink
    centre = (torch.arange(out_length, dtype=torch.float64) + 0.5) / scale - 0.5
    first = torch.floor(centre - width / 2).long()
    index = first + torch.arange(math.ceil(width) + 2)[:, None]
    weights = _cubic((centre - index) * shrink)
    weights = weights / weights.sum(0)
    used = (weights != 0).any(1)
    return symmetric_index(index, in_length)[used], weights[used]


def _cubic(x: Tensor) -> Tensor:
    """Keys' cubic convolution kernel with a = -0.5."""
    x = x.abs()
    inner = 1.5 * x**3 - 2.5 * x**2 + 1
    outer = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return inner.where(x <= 1, outer.where(x <= 2, 0.0))


def _shrink_rows(image_uint8: np.ndarray, top: int, bottom: int, factor: int) -> np.ndarray:
    """Return output rows top..bottom."""
    offset, weights = _whole_number_weights(factor)
    # The weights are multiples of 2^-8 for 2, of 2^-12 for 4: levels times these fit float32, and for 2 so do the
    # sums of both directions, 24 bits with levels centred. For other factors nothing is exact.
    first, second = {2: (cv2.CV_32F, cv2.CV_32F), 4: (cv2.CV_32F, cv2.CV_64F)}.get(factor, (cv2.CV_64F, cv2.CV_64F))
    start = max(0, factor * top - 3 * factor)
    part = image_uint8[start : factor * bottom + 3 * factor]
    one, border = np.ones(1), cv2.BORDER_REFLECT  # OpenCV's name for the symmetric border
    part = cv2.sepFilter2D(part, first, one, weights, anchor=(0, -offset), borderType=border)
    part = part[factor * top - start :: factor][: bottom - top] - 128
    part = cv2.sepFilter2D(part, second, weights, one, anchor=(-offset, 0), borderType=border)
    pixels = part.view(f"V{part.itemsize * 3}")[:, ::factor, 0]  # numpy copies whole pixels faster than channels
    part = np.ascontiguousarray(pixels).view(part.dtype).reshape(bottom - top, -1, 3)
    return np.rint(part + 128).clip(0, 255).astype(np.uint8)


def _whole_number_weights(factor: int) -> tuple[int, np.ndarray]:
    """Return what `resize` does when it shrinks by a whole number.

    Returns (offset, weights): output i is the sum of weights[t] * pixel factor * i + offset + t, in float64.
    """
    offsets = torch.arange(-2 * factor, 3 * factor, dtype=torch.float64)
    weights = _cubic((offsets - (factor - 1) / 2) / factor)
    used = weights.nonzero()[:, 0]
    weights = weights[used[0] : used[-1] + 1]
    return int(offsets[used[0]]), (weights / weights.sum()).numpy()
