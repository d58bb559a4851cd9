"""PSNR, SSIM and MS-SSIM as their authors compute them (MATLAB; BasicSR), and the luma that they may use.

Not torchmetrics: its SSIM also averages over windows that reach into a reflected border (2e-4 off on small
images), and in float64 takes most of a minute and 13 GB for a 2040x1356 photo, this 0.6 seconds. Nor pytorch-msssim:
where a side becomes odd on the way down its pyramid, it halves with a border of zeros (1e-4 off at 339x510, 7e-4 at
179x201).
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

_WINDOW, _SIGMA = 11, 1.5
_UNIFORM = 7
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_LEVELS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # exponents of MS-SSIM's scales, the full one first
MS_SSIM_SMALLEST = _WINDOW * 2 ** (len(_LEVELS) - 1)  # 176 pixels a side, as the authors' program asks for


def rgb_to_y(image: Tensor) -> Tensor:
    """(..., 3, H, W) RGB, 0..1 -> (..., 1, H, W) luma of ITU-R BT.601, 16/255..235/255.

    MATLAB's `rgb2ycbcr`: Y = (65.481 R + 128.553 G + 24.966 B + 16) / 255, not rounded.
    """
    red, green, blue = image.unbind(-3)
    return ((65.481 * red + 128.553 * green + 24.966 * blue + 16) / 255).unsqueeze(-3)


def psnr(result: Tensor, reference: Tensor, crop: int = 0, luma: bool = False) -> float:
    """Peak signal-to-noise ratio in dB: 10 log10(255^2 / mean squared difference over all channels).

    result, reference: (3, H, W), 0..1; both are first rounded to 8 bit, as in saved files.
    crop: pixels left out at each border. luma: compare the luma (`rgb_to_y`) of the rounded images.

    Equal images give inf. Raises ValueError for unequal or unusable shapes.
    """
    a, b = _prepare(result, reference, crop, luma)
    error = (a - b).square().mean().item()
    return 10 * math.log10(255**2 / error) if error else math.inf


def ssim(result: Tensor, reference: Tensor, crop: int = 0, luma: bool = False) -> float:
    """Structural similarity (Wang et al. 2004, equation 13), the mean over channels; 1 for equal images.

    Gaussian window of 11x11 with sigma 1.5, only where it lies inside the image; float64.
    Arguments and errors are those of `psnr`; at least 11 pixels a side must be left after cropping.
    """
    a, b = _prepare(result, reference, crop, luma)
    _check_size(a, _WINDOW, crop)
    return math.fsum(_ssim_plane(x, y, _blur)[0] for x, y in zip(a, b, strict=True)) / len(a)


def ssim_uniform(result: Tensor, reference: Tensor, crop: int = 0) -> float:
    """Structural similarity as scikit-image's `structural_similarity` computes it without options.

    Uniform window of 7x7, only where it lies inside the image, covariances of a sample (divided by 48); the mean over
    channels; float64. Arguments and errors are those of `ssim`; at least 7 pixels a side.
    """
    a, b = _prepare(result, reference, crop, luma=False)
    _check_size(a, _UNIFORM, crop)
    sample = _UNIFORM**2 / (_UNIFORM**2 - 1)
    return math.fsum(_ssim_plane(x, y, _box, sample)[0] for x, y in zip(a, b, strict=True)) / len(a)


def ms_ssim(result: Tensor, reference: Tensor, crop: int = 0) -> float:
    """Multi-scale structural similarity (Wang et al. 2003, equation 7), the mean over channels; 1 for equal images.

    Contrast and structure of five scales, luminance of the smallest, each to the power of its weight; between scales
    2x2 pixels are averaged (the last of an odd side with itself, as MATLAB's symmetric border does). A scale that
    correlates negatively counts as 0. Window and float64 are those of `ssim`, arguments and errors those of `psnr`;
    at least 176 pixels a side must be left after cropping.
    """
    a, b = _prepare(result, reference, crop, luma=False)
    _check_size(a, MS_SSIM_SMALLEST, crop, "MS-SSIM")
    return math.fsum(_ms_ssim_plane(x, y) for x, y in zip(a, b, strict=True)) / len(a)


def _prepare(result: Tensor, reference: Tensor, crop: int, luma: bool) -> tuple[Tensor, Tensor]:
    """Both images as (C, h, w) float64 in 0..255, rounded to 8 bit, then cropped, then turned to luma."""
    if result.shape != reference.shape:
        raise ValueError(
            f"result and reference must have one shape, got {tuple(result.shape)} and {tuple(reference.shape)}"
        )
    if result.ndim != 3 or result.shape[0] != 3 or not (result.is_floating_point() and reference.is_floating_point()):
        raise ValueError(f"expected (3, H, W) images of floats, got {tuple(result.shape)} {result.dtype}")
    height, width = result.shape[-2:]
    if crop < 0 or min(height, width) <= 2 * crop:
        raise ValueError(f"crop={crop} leaves nothing of {width}x{height} pixels")
    images = []
    for image in (result, reference):
        # Rounded in the image's own precision, as the file's writer does.
        image = image.detach()[:, crop : height - crop, crop : width - crop].clamp(0, 1).mul(255).round()
        image = image.double()
        images.append(rgb_to_y(image / 255) * 255 if luma else image)
    return images[0], images[1]


def _ms_ssim_plane(a: Tensor, b: Tensor) -> float:
    value = 1.0
    for level, weight in enumerate(_LEVELS):
        if level:
            a, b = _halve(a), _halve(b)
        similarity, contrast = _ssim_plane(a, b, _blur)
        value *= max(similarity if level == len(_LEVELS) - 1 else contrast, 0.0) ** weight
    return value


def _halve(plane: Tensor) -> Tensor:
    """(h, w) -> (ceil(h / 2), ceil(w / 2)): means of 2x2, the last row or column repeated where there is no pair."""
    height, width = plane.shape
    padded = F.pad(plane[None, None], (0, width % 2, 0, height % 2), mode="replicate")
    return F.avg_pool2d(padded, 2)[0, 0]


def _check_size(image: Tensor, window: int, crop: int, name: str = "SSIM") -> None:
    height, width = image.shape[-2:]
    if min(height, width) < window:
        rest = f"but {width}x{height} are left after crop={crop}" if crop else f"got {width}x{height}"
        raise ValueError(f"{name} needs at least {window}x{window} pixels, {rest}")


def _ssim_plane(a: Tensor, b: Tensor, blur: Callable[[Tensor], Tensor], sample: float = 1) -> tuple[float, float]:
    """Means over the plane of SSIM and of its product of contrast and structure."""
    mean_a, mean_b = blur(a), blur(b)
    var_a = sample * (blur(a * a) - mean_a**2)
    var_b = sample * (blur(b * b) - mean_b**2)
    covariance = sample * (blur(a * b) - mean_a * mean_b)
    contrast = (2 * covariance + _C2) / (var_a + var_b + _C2)
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    return (luminance * contrast).mean().item(), contrast.mean().item()


def _blur(plane: Tensor) -> Tensor:
    """(h, w) -> (h - 10, w - 10): the window's weighted mean, by rows then columns."""
    x = torch.arange(_WINDOW, dtype=torch.float64) - _WINDOW // 2
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
