"""PSNR, and what other metrics share: check of images, rounding to 8 bit, luma."""

import math

from torch import Tensor


class PSNR:
    """Peak signal-to-noise ratio, see `psnr`. luma: whether only Y is compared."""

    higher_is_better, needs_hr, digits = True, True, 2

    def __init__(self, luma: bool) -> None:
        self._luma = luma

    def compute(self, sr: Tensor, hr: Tensor) -> float:
        """Return PSNR in dB; inf for equal images."""
        return psnr(sr, hr, luma=self._luma)


def psnr(result: Tensor, reference: Tensor, crop: int = 0, luma: bool = False) -> float:
    """Return peak signal-to-noise ratio in dB, 10 log10(255^2 / MSE over all channels).

    result, reference: (3, H, W), 0..1; both are first rounded to 8 bit, as in saved files.
    crop: border pixels to crop. luma: compare the luma (`rgb_to_y`) of the rounded images.

    Returns inf for equal images. Raises ValueError for unequal or invalid shapes.
    """
    a, b = as_levels("PSNR", result, reference, crop=crop, luma=luma)
    error = (a - b).square().mean().item()
    return 10 * math.log10(255**2 / error) if error else math.inf


def check_images(name: str, *images: Tensor, smallest: int = 1) -> None:
    """Raise ValueError unless images are (3, H, W) floats of the same shape and large enough.

    smallest: minimum of height and width in pixels.
    """
    shapes = [tuple(image.shape) for image in images]
    valid = len(set(shapes)) == 1 and shapes[0][:-2] == (3,)
    if not (valid and all(image.is_floating_point() for image in images)):
        raise ValueError(
            f"{name}: expected floating-point images (3, H, W) of one shape, got "
            f"{' and '.join(map(str, shapes))}"
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


def as_levels(
    name: str, *images: Tensor, smallest: int = 1, crop: int = 0, luma: bool = False
) -> list[Tensor]:
    """(3, H, W), 0..1 -> (C, h, w) float64 in 0..255, cropped and rounded to 8 bit.

    smallest: minimum side after cropping. luma: convert the rounded images to luma (C = 1). Raises
    ValueError as `check_images` does.
    """
    check_images(name, *images, smallest=smallest + 2 * crop)
    height, width = images[0].shape[-2:]
    inner = [image.detach()[:, crop : height - crop, crop : width - crop] for image in images]
    # Rounded in the image's own precision, as when a file is written.
    levels = [image.clamp(0, 1).mul(255).round().double() for image in inner]
    return [rgb_to_y(image / 255) * 255 for image in levels] if luma else levels
