"""MS-SSIM: structural similarity at five scales.

pytorch-msssim is not used: when a side of its pyramid becomes odd, it halves with a border of zeros
(an error of 1e-4 at 339x510, 7e-4 at 179x201).
"""

from statistics import fmean

import torch.nn.functional as F
from torch import Tensor

from realsr.evaluation.metrics.psnr import as_levels
from realsr.evaluation.metrics.ssim import WINDOW, blur, ssim_plane

_LEVELS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # exponents by scale, from full size down
_SMALLEST = WINDOW * 2 ** (len(_LEVELS) - 1)  # 176 pixels a side, as in the authors' program


def ms_ssim(result: Tensor, reference: Tensor) -> float:
    """Return multi-scale structural similarity (Wang et al. 2003, equation 7); 1 for equal images.

    The value is the mean over channels. It multiplies contrast and structure of five scales and
    luminance of the smallest, each to the power of its weight. Between scales, 2x2 pixels are
    averaged; an odd side is extended by its last pixel, as by MATLAB's symmetric border. A scale
    with negative correlation counts as 0. Window and precision are those of `ssim`, arguments and
    errors those of `psnr`; a side has at least 176 pixels.
    """
    images = as_levels("MS-SSIM", result, reference, smallest=_SMALLEST)
    return fmean(_plane(a, b) for a, b in zip(*images, strict=True))


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
    """(h, w) -> (ceil(h / 2), ceil(w / 2)): means of 2x2, with the last row or column repeated."""
    height, width = plane.shape
    even = F.pad(plane[None, None], (0, width % 2, 0, height % 2), mode="replicate")
    return F.avg_pool2d(even, 2)[0, 0]
