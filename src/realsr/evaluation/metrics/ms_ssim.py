"""MS-SSIM: structural similarity of five scales.

Not pytorch-msssim: where a side becomes odd on the way down its pyramid, it halves with a border of zeros (1e-4 off at
339x510, 7e-4 at 179x201).
"""

import math

import torch.nn.functional as F
from torch import Tensor

from realsr.evaluation.metrics.psnr import as_levels, check_images
from realsr.evaluation.metrics.ssim import WINDOW, blur, ssim_plane

_LEVELS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # exponents of the scales, the full one first
_SMALLEST = WINDOW * 2 ** (len(_LEVELS) - 1)  # 176 pixels a side, as the authors' program asks for


def ms_ssim(result: Tensor, reference: Tensor) -> float:
    """Multi-scale structural similarity (Wang et al. 2003, equation 7), the mean over channels; 1 for equal images.

    Contrast and structure of five scales, luminance of the smallest, each to the power of its weight; between scales
    2x2 pixels are averaged (the last of an odd side with itself, as MATLAB's symmetric border does). A scale that
    correlates negatively counts as 0. Window and float64 are those of `ssim`, arguments and errors those of `psnr`;
    at least 176 pixels a side.
    """
    check_images("MS-SSIM", result, reference, smallest=_SMALLEST)
    a, b = (as_levels(image, crop=0, luma=False) for image in (result, reference))
    return math.fsum(_plane(x, y) for x, y in zip(a, b, strict=True)) / len(a)


class MSSSIM:
    """Multi-scale structural similarity, see `ms_ssim`."""

    higher_is_better, needs_hr, digits = True, True, 4
    compute = staticmethod(ms_ssim)


def _plane(a: Tensor, b: Tensor) -> float:
    value = 1.0
    for level, weight in enumerate(_LEVELS):
        if level:
            a, b = _halve(a), _halve(b)
        similarity, contrast = ssim_plane(a, b, blur)
        value *= max(similarity if level == len(_LEVELS) - 1 else contrast, 0.0) ** weight
    return value


def _halve(plane: Tensor) -> Tensor:
    """(h, w) -> (ceil(h / 2), ceil(w / 2)): means of 2x2, the last row or column repeated where there is no pair."""
    height, width = plane.shape
    padded = F.pad(plane[None, None], (0, width % 2, 0, height % 2), mode="replicate")
    return F.avg_pool2d(padded, 2)[0, 0]
