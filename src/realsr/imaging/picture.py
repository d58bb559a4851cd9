"""What a picture is in memory, between the decoders and the encoders."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from realsr.core.errors import ImageError


@dataclass(frozen=True)
class Picture:
    """An image with what its file needs to be written back as it was.

    rgb: (3, H, W) float32, 0..1; a gray picture has three equal channels.
    alpha: (1, H, W) float32, 0..1, not premultiplied; None without one.
    bits: bits per sample in the file, 8 or 16.
    gray: the file has one colour channel.
    """

    rgb: Tensor
    alpha: Tensor | None
    bits: int
    gray: bool


def to_float(image_uint8: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 RGB -> (3, H, W) float32, 0..1."""
    return torch.from_numpy(np.ascontiguousarray(image_uint8.transpose(2, 0, 1))).float().div_(255)


def to_uint8(image: Tensor) -> np.ndarray:
    """(3, H, W), 0..1 -> (H, W, 3) uint8 RGB: clamped, then rounded half to even.

    Raises ImageError for values that are not finite, which would become black.
    """
    check_finite(image)
    levels = image.detach().clamp(0, 1).mul(255).round_().to(torch.uint8)
    return np.ascontiguousarray(levels.permute(1, 2, 0).cpu().numpy())


def check_finite(image: Tensor) -> None:
    """Raise ImageError for an image with values that are not finite."""
    if not torch.isfinite(image).all():
        raise ImageError("the image has values that are not finite (NaN or infinite), so it is not written.")


# Decoders and encoders speak of `samples`: (H, W, C) uint8 or uint16, where C is
# 1 gray, 2 gray + alpha, 3 RGB, 4 RGB + alpha.


def picture_from_samples(samples: np.ndarray) -> Picture:
    """(H, W, C) uint8 or uint16 with C = 1 gray, 2 gray + alpha, 3 RGB, 4 RGBA -> Picture."""
    bits = samples.dtype.itemsize * 8
    planes = torch.from_numpy(np.ascontiguousarray(samples.transpose(2, 0, 1)).astype(np.float32))
    planes.div_(2**bits - 1)
    channels = len(planes)
    gray, has_alpha = channels <= 2, channels in (2, 4)
    colour = planes[: channels - has_alpha]
    return Picture(
        rgb=colour.expand(3, -1, -1).contiguous() if gray else colour,
        alpha=planes[-1:] if has_alpha else None,
        bits=bits,
        gray=gray,
    )


def samples_from_picture(picture: Picture) -> np.ndarray:
    """The inverse of `picture_from_samples`: clamped, rounded half to even; gray is the channels' mean.

    Raises ImageError as `to_uint8` does.
    """
    colour = picture.rgb.detach()
    check_finite(colour)
    if picture.gray:
        colour = colour.mean(0, keepdim=True)
    planes = colour if picture.alpha is None else torch.cat([colour, picture.alpha.detach().to(colour)])
    levels = planes.float().clamp(0, 1).mul(2**picture.bits - 1).round_().permute(1, 2, 0)
    return np.ascontiguousarray(levels.cpu().numpy().astype(np.uint16 if picture.bits == 16 else np.uint8))


def rgb_uint8_from_samples(samples: np.ndarray) -> np.ndarray:
    """(H, W, C) samples -> (H, W, 3) uint8 RGB: alpha dropped, 16 bit rounded to 8."""
    channels = samples.shape[2]
    colour = samples[..., : channels - (channels in (2, 4))]
    if colour.dtype == np.uint16:
        # 65535 = 255 * 257, and 257 is odd: no ties to break.
        colour = ((colour.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if colour.shape[2] == 1:
        colour = np.repeat(colour, 3, axis=2)
    return np.ascontiguousarray(colour)
