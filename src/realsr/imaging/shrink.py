"""Bicubic shrinking of 8-bit images by a whole number, fast and in bounded memory."""

import cv2
import numpy as np

from realsr.imaging.resize import cubic_weights

_STRIP = 64  # output rows at once, so that what is under way stays in the processor's cache


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


def _shrink_rows(image_uint8: np.ndarray, top: int, bottom: int, factor: int) -> np.ndarray:
    """Return output rows top..bottom."""
    offset, weights = cubic_weights(factor)
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
