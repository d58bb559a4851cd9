"""Conversions between 8-bit arrays and float tensors, and colours of transparent pixels."""

from collections.abc import Iterator

import cv2
import numpy as np
import torch
from torch import Tensor

from realsr.core.errors import ImageError

# From this alpha on a pixel keeps its colour; below, premultiplied 8-bit files round it too much.
OPAQUE_ENOUGH = 1 / 16
_BAND = 2**20  # pixels converted at a time


def to_float(image_uint8: np.ndarray) -> Tensor:
    """Convert RGB (H, W, 3) uint8 to (3, H, W) float32, 0..1."""
    return torch.from_numpy(np.ascontiguousarray(image_uint8.transpose(2, 0, 1))).float().div_(255)


def to_uint8(image: Tensor) -> np.ndarray:
    """Convert (3, H, W), 0..1, to RGB (H, W, 3) uint8, clamped and rounded half to even.

    Raises ImageError for values that are not finite, which would become black.
    """
    if not torch.isfinite(image).all():
        raise ImageError("the image has values that are not finite (NaN or infinite).")
    levels = image.detach().clamp(0, 1).mul(255).round_().to(torch.uint8)
    return np.ascontiguousarray(levels.permute(1, 2, 0).cpu().numpy())


def to_rgb_uint8(samples: np.ndarray) -> np.ndarray:
    """Convert samples (H, W, C) as in `Photo` to RGB (H, W, 3) uint8.

    Alpha is dropped, 16 bit is rounded to 8.
    """
    channels = samples.shape[2]
    colour = samples[..., : channels - (channels in (2, 4))]
    if colour.dtype == np.uint16:
        # 65535 = 255 * 257, and 257 is odd, so there are no ties.
        colour = ((colour.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if colour.shape[2] == 1:
        colour = np.repeat(colour, 3, axis=2)
    return np.ascontiguousarray(colour)


def divide_by_alpha(samples: np.ndarray) -> None:
    """Divide, in place, premultiplied colours by alpha; samples: as in `Photo` with alpha."""
    top = np.iinfo(samples.dtype).max
    for rows in row_bands(samples):
        band = samples[rows]
        colour = band[..., :-1].astype(np.float64) * top / np.maximum(band[..., -1:], 1)
        band[..., :-1] = np.rint(colour.clip(0, top))


def is_opaque(samples: np.ndarray) -> bool:
    """Return whether samples (H, W, C), C = 1..4 as in `Photo`, have no transparent pixel."""
    opaque = np.iinfo(samples.dtype).max
    return samples.shape[2] in (1, 3) or bool((samples[..., -1] == opaque).all())


def fill_transparent(samples: np.ndarray) -> None:
    """Replace, in place, the colours of transparent pixels by those of visible pixels around them.

    These colours are invisible, but filters and networks mix them into visible ones. A pixel keeps
    the share min(1, 16 alpha) of its colour. The rest is the mean of its surroundings, weighted by
    this share, over the smallest squares of 2, 4, 8, … pixels that contain a visible pixel,
    interpolated between the squares (push-pull; Gortler et al., The Lumigraph, SIGGRAPH 1996).
    Samples with no pixel below alpha 1/16, or with no visible pixel, are unchanged. In addition to
    the samples, 4/3 (C + 1) bytes of memory are needed per pixel for C colours.

    samples: (H, W, 2) gray + alpha or (H, W, 4) RGBA, uint8 or uint16, not premultiplied.
    """
    alpha = samples[..., -1]
    if alpha.min() >= np.iinfo(samples.dtype).max * OPAQUE_ENOUGH or not alpha.any():
        return
    height, width, channels = samples.shape
    level = np.empty((-(-height // 2), -(-width // 2), channels), np.float32)
    for band in row_bands(samples):
        level[band.start // 2 : -(-band.stop // 2)] = _halve(_weigh(samples[band]))
    levels = [level]
    while max(level.shape[:2]) > 1:
        level = _halve(level)
        levels.append(level)
    fill = level[..., :-1] / level[..., -1:]
    for level in reversed(levels[:-1]):
        for band in row_bands(level):
            _add_fill(level[band], fill, band)
        fill = level[..., :-1]
    for band in row_bands(samples):
        values = _weigh(samples[band])
        _add_fill(values, fill, band)
        samples[band, :, :-1] = np.rint(values[..., :-1])


def _weigh(samples: np.ndarray) -> np.ndarray:
    """Return (h, w, C + 1) float32: colours times their weight, and the weight, 0..1."""
    values = samples.astype(np.float32)
    weights = values[..., -1:]
    weights *= 1 / (OPAQUE_ENOUGH * np.iinfo(samples.dtype).max)
    np.minimum(weights, 1, out=weights)
    values[..., :-1] *= weights
    return values


def _halve(values: np.ndarray) -> np.ndarray:
    """Sum over squares of 2 x 2, truncated at odd sides; normalise weights above 1 to 1."""
    height, width = values.shape[:2]
    sums = np.add.reduceat(values, np.arange(0, height, 2), axis=0)
    sums = np.add.reduceat(sums, np.arange(0, width, 2), axis=1)
    sums /= np.maximum(sums[..., -1:], 1)
    return sums


def _add_fill(values: np.ndarray, coarse: np.ndarray, rows: slice) -> None:
    """Add, in place, the missing share of weighted colours (h, w, C + 1) from the coarser level.

    rows: the position of the values in their level; coarse: (H / 2, W / 2, C), the whole level.
    """
    # With one more row on each side for the interpolation.
    first, last = max(0, rows.start // 2 - 1), -(-rows.stop // 2) + 1
    part = np.ascontiguousarray(coarse[first:last])
    height, width, colours = part.shape
    double = cv2.resize(part, (2 * width, 2 * height)).reshape(2 * height, 2 * width, colours)
    top = rows.start - 2 * first
    double = double[top : top + len(values), : values.shape[1]]
    values[..., :-1] += (1 - values[..., -1:]) * double


def row_bands(samples: np.ndarray) -> Iterator[slice]:
    """Divide the rows of (H, W, C) samples into bands of even height that need little memory."""
    height, width = samples.shape[:2]
    step = max(2, _BAND // width // 2 * 2)
    return (slice(top, min(top + step, height)) for top in range(0, height, step))
