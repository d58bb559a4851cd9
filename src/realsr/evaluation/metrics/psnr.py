"""PSNR, the luma that it may be of, and the rounding to 8 bit before it."""

import math

from torch import Tensor


class PSNR:
    """Peak signal-to-noise ratio, see `psnr`. luma: of Y alone."""

    higher_is_better, needs_hr, digits = True, True, 2

    def __init__(self, luma: bool) -> None:
        self._luma = luma

    def compute(self, sr: Tensor, hr: Tensor) -> float:
        """Return it in dB; inf for equal images."""
        return psnr(sr, hr, luma=self._luma)


def psnr(result: Tensor, reference: Tensor, crop: int = 0, luma: bool = False) -> float:
    """Peak signal-to-noise ratio in dB: 10 log10(255^2 / mean squared difference over all channels).

    result, reference: (3, H, W), 0..1; both are first rounded to 8 bit, as in saved files.
    crop: pixels left out at each border. luma: compare the luma (`rgb_to_y`) of the rounded images.

    Equal images give inf. Raises ValueError for unequal or unusable shapes.
    """
    a, b = prepare_pair(result, reference, crop, luma)
    error = (a - b).square().mean().item()
    return 10 * math.log10(255**2 / error) if error else math.inf


def rgb_to_y(image: Tensor) -> Tensor:
    """(..., 3, H, W) RGB, 0..1 -> (..., 1, H, W) luma of ITU-R BT.601, 16/255..235/255.

    MATLAB's `rgb2ycbcr`: Y = (65.481 R + 128.553 G + 24.966 B + 16) / 255, not rounded.
    """
    red, green, blue = image.unbind(-3)
    return ((65.481 * red + 128.553 * green + 24.966 * blue + 16) / 255).unsqueeze(-3)


def prepare_pair(result: Tensor, reference: Tensor, crop: int, luma: bool) -> tuple[Tensor, Tensor]:
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
