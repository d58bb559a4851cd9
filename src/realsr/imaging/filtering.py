"""Blurring with a kernel and keeping every s-th sample: the degradation's model of a camera."""

import math

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from realsr.imaging.resize import symmetric_index

_ROWS = 4  # output rows computed by one product of matrices
_WEIGHT_STEP = 2.0**-43


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
        raise ValueError(f"expected a (C, H, W) image of floats, got {tuple(image.shape)} {image.dtype}")
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


def _correlate(image: Tensor, weights: Tensor, scale: int) -> Tensor:
    """Do what `apply_kernel` says, in float64, for an image of any dtype.

    Column scale * x + p + scale * q of the image is phase p at x + q. For one shift q, what the kernel makes of a
    window of rows and all phases is a product of matrices, without a copy of the image for each tap; a few output
    rows at once make it one that computers are good at. What is left is to add up the shifted products.
    """
    (rows, columns), channels = weights.shape, len(image)
    height, width = (math.ceil(side / scale) for side in image.shape[1:])
    shifts, strips = math.ceil(columns / scale), math.ceil(height / _ROWS)
    step = scale * _ROWS
    window = rows + step - scale
    padded = _extend(image, -2, rows // 2, window + step * (strips - 1))
    padded = _extend(padded, -1, columns // 2, scale * (width + shifts - 1))
    phases = padded.unflatten(-1, (-1, scale)).permute(1, 3, 0, 2).contiguous()  # row, phase, channel, x

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
        image.index_select(dim, symmetric_index(torch.arange(*side, device=image.device), inside)) for side in outside
    )
    return torch.cat([left, image, right], dim).narrow(dim, 0, length)
