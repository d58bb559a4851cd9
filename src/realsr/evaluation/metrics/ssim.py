"""SSIM as its authors compute it (MATLAB; BasicSR) and as scikit-image does.

Not torchmetrics: its SSIM also averages over windows that reach into a reflected border (2e-4 off on small
images), and in float64 takes most of a minute and 13 GB for a 2040x1356 photo, this 0.6 seconds.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from realsr.evaluation.metrics.psnr import prepare_pair

WINDOW, _SIGMA = 11, 1.5
_UNIFORM = 7
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


class SSIM:
    """Structural similarity. window: of 11x11 (`ssim`) or of 7x7 (`ssim_uniform`); luma: of Y."""

    higher_is_better, needs_hr, digits = True, True, 4

    def __init__(self, window: Literal["gaussian", "uniform"], luma: bool) -> None:
        self._uniform, self._luma = window == "uniform", luma

    def compute(self, sr: Tensor, hr: Tensor) -> float:
        """Return it; 1 for equal images."""
        return ssim_uniform(sr, hr, luma=self._luma) if self._uniform else ssim(sr, hr, luma=self._luma)


def ssim(result: Tensor, reference: Tensor, crop: int = 0, luma: bool = False) -> float:
    """Structural similarity (Wang et al. 2004, equation 13), the mean over channels; 1 for equal images.

    Gaussian window of 11x11 with sigma 1.5, only where it lies inside the image; float64.
    Arguments and errors are those of `psnr`; at least 11 pixels a side must be left after cropping.
    """
    a, b = prepare_pair(result, reference, crop, luma)
    check_size(a, WINDOW, crop)
    return math.fsum(ssim_plane(x, y, blur)[0] for x, y in zip(a, b, strict=True)) / len(a)


def ssim_uniform(result: Tensor, reference: Tensor, crop: int = 0, luma: bool = False) -> float:
    """Structural similarity as scikit-image's `structural_similarity` computes it without options.

    Uniform window of 7x7, only where it lies inside the image, covariances of a sample (divided by 48); the mean over
    channels; float64. Arguments and errors are those of `ssim`; at least 7 pixels a side.
    """
    a, b = prepare_pair(result, reference, crop, luma)
    check_size(a, _UNIFORM, crop)
    sample = _UNIFORM**2 / (_UNIFORM**2 - 1)
    return math.fsum(ssim_plane(x, y, _box, sample)[0] for x, y in zip(a, b, strict=True)) / len(a)


def check_size(image: Tensor, window: int, crop: int, name: str = "SSIM") -> None:
    """Raise ValueError where an image, cropped already, is smaller than a window."""
    height, width = image.shape[-2:]
    if min(height, width) < window:
        rest = f"but {width}x{height} are left after crop={crop}" if crop else f"got {width}x{height}"
        raise ValueError(f"{name} needs at least {window}x{window} pixels, {rest}")


def ssim_plane(a: Tensor, b: Tensor, blur: Callable[[Tensor], Tensor], sample: float = 1) -> tuple[float, float]:
    """Means over the plane of SSIM and of its product of contrast and structure."""
    mean_a, mean_b = blur(a), blur(b)
    var_a = sample * (blur(a * a) - mean_a**2)
    var_b = sample * (blur(b * b) - mean_b**2)
    covariance = sample * (blur(a * b) - mean_a * mean_b)
    contrast = (2 * covariance + _C2) / (var_a + var_b + _C2)
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    return (luminance * contrast).mean().item(), contrast.mean().item()


def blur(plane: Tensor) -> Tensor:
    """(h, w) -> (h - 10, w - 10): the window's weighted mean, by rows then columns."""
    x = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    gaussian = torch.exp(-(x**2) / (2 * _SIGMA**2))
    return _weigh(plane, (gaussian / gaussian.sum()).tolist())


def _box(plane: Tensor) -> Tensor:
    """(h, w) -> (h - 6, w - 6): the mean over the uniform window."""
    return _weigh(plane, [1 / _UNIFORM] * _UNIFORM)


def _weigh(plane: Tensor, weights: list[float]) -> Tensor:
    for dim in (0, 1):
        length = plane.shape[dim] - len(weights) + 1
        # Shifted sums: torch's float64 convolution unfolds the image and is several times slower.
        out = plane.narrow(dim, 0, length) * weights[0]
        for shift, weight in enumerate(weights[1:], start=1):
            out.add_(plane.narrow(dim, shift, length), alpha=weight)
        plane = out
    return plane
