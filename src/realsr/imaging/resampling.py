"""Resizing and filtering in exact arithmetic.

`resize` is MATLAB's bicubic `imresize`, the field's reference for making and undoing low resolution. `apply_kernel`
blurs with a kernel and keeps every s-th sample: the degradation's model of a camera.
"""

import math

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_STRIP = 64  # output rows at once, so that intermediate values stay in the processor's cache
_ROWS = 4  # output rows computed by one product of matrices
_WEIGHT_STEP = 2.0**-43


def resize(
    image: Tensor, factor: float | None = None, size: tuple[int, int] | None = None
) -> Tensor:
    """Resize by bicubic interpolation as MATLAB's `imresize` does.

    Keys' cubic (1981) with a = -0.5, widened by 1/factor when shrinking (antialiasing), symmetric border.
    Values are neither clamped nor rounded.

    image: (..., H, W), float32 or float64, of any range.
    factor: both sides become ceil(side * factor); size: (height, width). Give exactly one of them.

    Returns (..., H', W') of the same dtype. Raises ValueError for other dtypes and unusable sizes.
    """
    if (factor is None) == (size is None):
        raise ValueError(
            f"give exactly one of factor and size, got factor={factor} and size={size}"
        )
    if image.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"resize needs float32 or float64, got {image.dtype}: convert the image first"
        )
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

    For factors of 2 and 4 each sum is exact, so that neither the order of summation nor the machine matters. Rows and
    columns apart take a quarter of the time of `apply_kernel_uint8` on 12 megapixels.

    image_uint8: (H, W, 3). Returns (ceil(H / factor), ceil(W / factor), 3) uint8. Raises ValueError for a factor
    below 1.
    """
    if factor < 1:
        raise ValueError(f"the factor must be 1 or more, got {factor}")
    if factor == 1:
        return image_uint8
    reach = 5 * factor // 2 - 1
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    values = _cubic((offsets - (factor - 1) / 2) / factor)
    weights, identity = (values / values.sum()).numpy(), np.ones(1)
    # The weights are multiples of 2^-8 for 2, of 2^-12 for 4: levels times these fit float32, and for 2 so do the
    # sums of both directions, 24 bits with levels centred. For other factors nothing is exact.
    first, second = {2: (cv2.CV_32F, cv2.CV_32F), 4: (cv2.CV_32F, cv2.CV_64F)}.get(
        factor, (cv2.CV_64F, cv2.CV_64F)
    )
    border = cv2.BORDER_REFLECT  # OpenCV's name for the symmetric border
    height, width = (-(-side // factor) for side in image_uint8.shape[:2])
    out = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _STRIP):
        bottom = min(top + _STRIP, height)
        start = max(0, factor * top - reach)
        rows = cv2.sepFilter2D(
            image_uint8[start : factor * bottom + reach],
            first,
            identity,
            weights,
            borderType=border,
        )
        rows = rows[factor * top - start :: factor][: bottom - top] - 128
        levels = (
            cv2.sepFilter2D(rows, second, weights, identity, borderType=border)[:, ::factor] + 128
        )
        out[top:bottom] = np.rint(levels).clip(0, 255)
    return out


def apply_kernel(image: Tensor, kernel: np.ndarray | Tensor, scale: int = 1) -> Tensor:
    """Correlate with a kernel and keep samples 0, scale, 2 scale, …; the others are never computed.

    out[c, y, x] = sum over i, j of kernel[i, j] * image[c, scale y + i - k//2, scale x + j - l//2]: no
    flip, centre at index k//2 for odd and even k, symmetric border (edge pixel repeated), also for images
    smaller than the kernel. Each channel apart; sums are in float64.

    image: (C, H, W), float32 or float64. kernel: (k, l).

    Returns (C, ceil(H / scale), ceil(W / scale)) of the image's dtype. Raises ValueError for other shapes
    or types and for a scale below 1.
    """
    weights = torch.as_tensor(kernel).to(image.device, torch.float64)
    if image.ndim != 3 or 0 in image.shape or not image.is_floating_point():
        raise ValueError(
            f"expected a (C, H, W) image of floats, got {tuple(image.shape)} {image.dtype}"
        )
    if weights.ndim != 2 or 0 in weights.shape:
        raise ValueError(f"expected a (k, l) kernel, got {tuple(weights.shape)}")
    if scale < 1:
        raise ValueError(f"scale must be at least 1, got {scale}")
    return _correlate(image, weights, scale).to(image.dtype)


def apply_kernel_uint8(image_uint8: np.ndarray, kernel: np.ndarray, scale: int) -> np.ndarray:
    """Apply a kernel of sum 1 as `apply_kernel` does, with the same bytes on any number of threads and any machine.

    For that, weights are rounded to multiples of 2^-43: as long as their magnitudes add up to less than 4, they times
    levels 0..255 and all sums of these are then exact in float64, so that no order of summation matters. No level
    moves by more than 1e-8 by this.

    image_uint8: (H, W, 3). Returns (ceil(H / scale), ceil(W / scale), 3) uint8, clamped, rounded half to even.
    """
    planes = torch.from_numpy(np.ascontiguousarray(image_uint8.transpose(2, 0, 1)))
    weights = torch.from_numpy(np.rint(kernel / _WEIGHT_STEP) * _WEIGHT_STEP)
    levels = _correlate(planes, weights, scale).clamp_(0, 255).round_().to(torch.uint8)
    return cv2.merge(list(levels.numpy()))


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


def _correlate(image: Tensor, weights: Tensor, scale: int) -> Tensor:
    """Compute `apply_kernel` in float64, for an image of any dtype.

    Column scale * x + p + scale * q of the image is phase p at x + q. For one shift q, what the kernel makes of a
    window of rows and all phases is a product of matrices, without a copy of the image for each tap; a few output
    rows at once make it a size that computers are good at. Then the shifted products are added up.
    """
    (rows, columns), channels = weights.shape, len(image)
    height, width = (math.ceil(side / scale) for side in image.shape[1:])
    shifts, strips = math.ceil(columns / scale), math.ceil(height / _ROWS)
    step = scale * _ROWS
    window = rows + step - scale
    padded = _extend(image, -2, rows // 2, window + step * (strips - 1))
    padded = _extend(padded, -1, columns // 2, scale * (width + shifts - 1))
    phases = (
        padded.unflatten(-1, (-1, scale)).permute(1, 3, 0, 2).contiguous()
    )  # row, phase, channel, x

    taps = F.pad(weights, (0, shifts * scale - columns)).view(rows, shifts, scale).transpose(0, 1)
    matrix = weights.new_zeros(_ROWS, shifts, window, scale)
    for row in range(_ROWS):
        matrix[row, :, scale * row : scale * row + rows] = taps
    matrix = matrix.view(_ROWS * shifts, window * scale)

    out = []
    for top in range(0, step * strips, step):
        products = matrix @ phases[top : top + window].reshape(window * scale, -1).double()
        products = products.view(_ROWS, shifts, channels, -1)
        total = products[:, 0, :, :width]
        for shift in range(1, shifts):
            total = total + products[:, shift, :, shift : shift + width]
        out.append(total)
    return torch.cat(out)[:height].transpose(0, 1).contiguous()


def _extend(image: Tensor, dim: int, before: int, length: int) -> Tensor:
    """Take `length` positions of one dimension from -before on, mirrored at the image's borders."""
    inside = image.shape[dim]
    outside = ((-before, 0), (inside, max(inside, length - before)))
    left, right = (
        image.index_select(dim, symmetric_index(torch.arange(*side, device=image.device), inside))
        for side in outside
    )
    return torch.cat([left, image, right], dim).narrow(dim, 0, length)
