"""Colours under transparent pixels, which nobody sees, but which filters and networks mix into visible ones."""

from collections.abc import Iterator

import cv2
import numpy as np

OPAQUE_ENOUGH = 1 / 16  # alpha from which a pixel keeps its colour; 8-bit premultiplied files round it too far below
_BAND = 2**19  # pixels that are computed with at once


def is_opaque(samples: np.ndarray) -> bool:
    """Tell whether samples (H, W, C), C = 1 gray, 2 gray + alpha, 3 RGB, 4 RGBA, have no pixel that is transparent."""
    return samples.shape[2] in (1, 3) or bool((samples[..., -1] == np.iinfo(samples.dtype).max).all())


def fill_transparent(samples: np.ndarray) -> None:
    """Replace, in place, colours under transparent pixels by those of the visible pixels around them.

    A pixel keeps the part min(1, 16 alpha) of its colour. The rest is the mean of its surroundings, weighted by the
    same part, over the smallest squares of 2, 4, 8, … pixels that hold something visible, interpolated between the
    squares (push-pull; Gortler et al., The Lumigraph, SIGGRAPH 1996). Nothing is done where no pixel is below alpha
    1/16, or where none is visible. Beyond the samples it takes 4/3 (C + 1) bytes a pixel for C colours.

    Args:
        samples: (H, W, 2) gray + alpha or (H, W, 4) RGBA, uint8 or uint16, not premultiplied.
    """
    peak = np.iinfo(samples.dtype).max
    alpha = samples[..., -1]
    if alpha.min() >= peak * OPAQUE_ENOUGH or not alpha.any():
        return
    height, width, channels = samples.shape
    level = np.empty((-(-height // 2), -(-width // 2), channels), np.float32)
    for band in _bands(height, width):
        level[band.start // 2 : -(-band.stop // 2)] = _halve(_weigh(samples[band]))
    levels = [level]
    while max(level.shape[:2]) > 1:
        level = _halve(level)
        levels.append(level)
    filled = level[..., :-1] / level[..., -1:]
    for level in reversed(levels[:-1]):
        for band in _bands(*level.shape[:2]):
            _add_missing(level[band], filled, band)
        filled = level[..., :-1]
    for band in _bands(height, width):
        values = _weigh(samples[band])
        _add_missing(values, filled, band)
        samples[band, :, :-1] = np.rint(values[..., :-1])


def _bands(height: int, width: int) -> Iterator[slice]:
    step = max(2, _BAND // width // 2 * 2)  # even, so that no square of 2 x 2 is cut
    return (slice(top, min(top + step, height)) for top in range(0, height, step))


def _weigh(samples: np.ndarray) -> np.ndarray:
    """(h, w, C + 1) float32: colours times their weight, and the weight, 0..1."""
    values = samples.astype(np.float32)
    weights = values[..., -1:]
    weights *= 1 / (OPAQUE_ENOUGH * np.iinfo(samples.dtype).max)
    np.minimum(weights, 1, out=weights)
    values[..., :-1] *= weights
    return values


def _halve(values: np.ndarray) -> np.ndarray:
    """Sums of squares of 2 x 2, of which sides of odd length cut the last; weights above 1 become 1."""
    height, width = values.shape[:2]
    sums = np.add.reduceat(values, np.arange(0, height, 2), axis=0)
    sums = np.add.reduceat(sums, np.arange(0, width, 2), axis=1)
    sums /= np.maximum(sums[..., -1:], 1)
    return sums


def _add_missing(values: np.ndarray, coarse: np.ndarray, rows: slice) -> None:
    """Add, in place, to weighted colours (h, w, C + 1) what they lack, from colours of half the size.

    rows: where the values lie in their level; coarse: (H / 2, W / 2, C), all of it.
    """
    first, last = max(0, rows.start // 2 - 1), -(-rows.stop // 2) + 1  # a row more for the interpolation
    part = coarse[first:last]
    colours = part.shape[2]
    double = cv2.resize(np.ascontiguousarray(part), (2 * part.shape[1], 2 * part.shape[0]))
    double = double.reshape(2 * part.shape[0], 2 * part.shape[1], colours)
    top = rows.start - 2 * first
    double = double[top : top + len(values), : values.shape[1]]
    values[..., :-1] += (1 - values[..., -1:]) * double
