"""MATLAB's bicubic `imresize`, the field's reference for making and undoing low resolution."""

import math

import numpy as np
import torch
from torch import Tensor

from realsr.imaging.border import symmetric_index


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


def cubic_weights(factor: int) -> tuple[int, np.ndarray]:
    """Return what `resize` does when it shrinks by a whole number.

    Returns (offset, weights): output i is the sum of weights[t] * pixel factor * i + offset + t, in float64.
    """
    offsets = torch.arange(-2 * factor, 3 * factor, dtype=torch.float64)
    weights = _cubic((offsets - (factor - 1) / 2) / factor)
    used = weights.nonzero()[:, 0]
    weights = weights[used[0] : used[-1] + 1]
    return int(offsets[used[0]]), (weights / weights.sum()).numpy()


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
