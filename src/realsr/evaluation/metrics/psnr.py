"""PSNR, and what other metrics share with it: the check of images, rounding to 8 bit, luma."""

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
    check_images("PSNR", result, reference, smallest=1 + 2 * crop)
    a, b = (as_levels(image, crop, luma) for image in (result, reference))
    error = (a - b).square().mean().item()
    return 10 * math.log10(255**2 / error) if error else math.inf


def check_images(name: str, *images: Tensor, smallest: int = 1) -> None:
    """Raise ValueError unless images are (3, H, W) floats of one shape with `smallest` pixels a side or more."""
    shapes = [tuple(image.shape) for image in images]
    if (
        len(set(shapes)) > 1
        or shapes[0][:-2] != (3,)
        or not all(image.is_floating_point() for image in images)
    ):
        listed = " and ".join(map(str, shapes))
        raise ValueError(
            f"{name}: expected floating-point images (3, H, W) of one shape, got {listed}"
        )
    height, width = shapes[0][1:]
    if min(height, width) < smallest:
        raise ValueError(
            f"{name} needs at least {smallest}x{smallest} pixels, got {width}x{height}"
        )


def rgb_to_y(image: Tensor) -> Tensor:
    """(..., 3, H, W) RGB, 0..1 -> (..., 1, H, W) luma of ITU-R BT.601, 16/255..235/255.

    MATLAB's `rgb2ycbcr`: Y = (65.481 R + 128.553 G + 24.966 B + 16) / 255, not rounded.
    """
    red, green, blue = image.unbind(-3)
    return ((65.481 * red + 128.553 * green + 24.966 * blue + 16) / 255).unsqueeze(-3)


def as_levels(image: Tensor, crop: int, luma: bool) -> Tensor:
    """(3, H, W), 0..1 -> (C, h, w) float64 in 0..255, rounded to 8 bit, cropped, then turned to luma by `luma`."""
    height, width = image.shape[-2:]
    # Rounded in the image's own precision, as the file's writer does.
    levels = (
        image.detach()[:, crop : height - crop, crop : width - crop]
        .clamp(0, 1)
        .mul(255)
        .round()
        .double()
    )
    return rgb_to_y(levels / 255) * 255 if luma else levels
