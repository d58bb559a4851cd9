"""Samples -> file contents, in the format that a file name's suffix asks for."""

import io
from typing import Any

import numpy as np
from PIL import Image

from realsr.imaging.picture import ImageError
from realsr.imaging.png import encode_png
from realsr.imaging.sixteen_bit import encode_tiff_16

_FORMAT = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
    ".bmp": "BMP",
}
IMAGE_SUFFIXES = frozenset(_FORMAT)

_LONGEST_SIDE = {"JPEG": 65535, "WEBP": 16383}
_OPTIONS: dict[str, dict[str, Any]] = {
    # Higher levels cost far more time than they save space on photos.
    "PNG": {"compress_level": 1},
    "JPEG": {"quality": 95, "subsampling": "4:4:4"},
    "TIFF": {"compression": "tiff_adobe_deflate"},
    # exact: colours under transparent pixels are kept too.
    "WEBP": {"lossless": True, "exact": True},
    "BMP": {},
}


def encode_samples(samples: np.ndarray, suffix: str) -> bytes:
    """Encode an image in the format that `suffix` (such as ".png", in any case) names.

    samples: (H, W, C) uint8 or uint16, C = 1 gray, 2 gray + alpha, 3 RGB, 4 RGBA. WebP (all) and TIFF
    (16-bit gray + alpha) have no such gray and get RGB channels of equal value.

    Raises ImageError for what the format cannot hold: alpha in JPEG and BMP, 16 bit outside PNG and
    TIFF, sides over 65535 (JPEG) or 16383 (WebP), and for an unknown suffix.
    """
    kind = _FORMAT.get(suffix.lower())
    if kind is None:
        known = " ".join(sorted(IMAGE_SUFFIXES))
        raise ImageError(f"no image format is known for the suffix {suffix!r}: use one of {known}.")
    height, width, channels = samples.shape
    if min(height, width) == 0:
        raise ImageError(f"an image of {width}x{height} pixels has nothing to write.")
    if channels in (2, 4) and kind in ("JPEG", "BMP"):
        raise ImageError(f"{kind} cannot hold the image's alpha channel: write .png, .tif or .webp.")
    if samples.dtype == np.uint16 and kind not in ("PNG", "TIFF"):
        raise ImageError(f"{kind} cannot hold 16 bits per sample: write .png or .tif, or convert to 8 bit.")
    if max(height, width) > _LONGEST_SIDE.get(kind, max(height, width)):
        raise ImageError(
            f"{kind} cannot hold {width}x{height} pixels (at most {_LONGEST_SIDE[kind]} a side): write .png or .tif."
        )
    if samples.dtype == np.uint16:
        if kind == "PNG":
            return encode_png(samples)
        return encode_tiff_16(samples[..., [0, 0, 0, 1]] if channels == 2 else samples)
    image = Image.fromarray(samples[..., 0] if channels == 1 else samples)
    with io.BytesIO() as file:
        image.save(file, kind, **_OPTIONS[kind])
        return file.getvalue()
