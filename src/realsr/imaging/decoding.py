"""Parts common to all decoders: errors, size limits, and copies out of Pillow's memory."""

import io
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import Image

from realsr.core.errors import ImageError
from realsr.imaging.photo import Metadata

_BAND = 2**20  # pixels copied out of Pillow's memory or converted at a time


@dataclass(frozen=True)
class FileContent:
    """The decoded content of a file, before its orientation is applied.

    omissions: descriptions of content that is not read. orientation: 1..8 as in EXIF.
    damage: what is wrong with the file; None if it is intact.
    """

    samples: np.ndarray
    metadata: Metadata
    omissions: list[str]
    orientation: int
    damage: str | None = None


class DamageError(ValueError):
    """The contents of an image file are damaged; callers put its name before the message."""


def damage_error(name: str, damage: str) -> ImageError:
    """Return the error for a damaged file that damaged=accept decodes in part."""
    return ImageError(
        f"{name}: damaged ({damage}). Copy it again, remove it, or set damaged=accept to use the "
        "part that can be decoded."
    )


def content_error(name: str, content: str) -> ImageError:
    """Return the error for an intact file with content that is not supported."""
    return ImageError(
        f"{name} holds {content}, which realsr does not read. Save it as 8-bit or 16-bit gray or "
        "RGB in PNG or TIFF."
    )


def check_size(width: int, height: int, name: str) -> None:
    """Raise ImageError if an image of the size in a header would exceed the machine's memory."""
    size, available = 4 * width * height, _machine_memory()
    if available is not None and size > available:
        raise ImageError(
            f"{name} declares {width}x{height} pixels, which need {size / 2**30:.0f} GiB, but the "
            f"machine has {available / 2**30:.0f} GiB of memory. Crop or shrink it with a program "
            "for images of this size."
        )


def _machine_memory() -> int | None:
    """Return the machine's memory in bytes; None if the system does not report it."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


_limit_lock = threading.Lock()


def open_image(file: BinaryIO) -> Image.Image:
    """Open an image file by Pillow without its pixel limit; a lock guards this global setting."""
    with _limit_lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file, formats=("PNG", "JPEG", "WEBP", "BMP"))
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def open_contents(data: bytes, name: str) -> Image.Image:
    """Open the contents of a file as `open_image` does. Raises ImageError as `check_size`."""
    image = open_image(io.BytesIO(data))
    check_size(image.width, image.height, name)
    return image


def copy_samples(image: Image.Image) -> np.ndarray:
    """Return the samples of an 8-bit image, (H, W, C) uint8.

    They are copied in bands, since Pillow's own conversion holds the image four times.
    """
    image.load()
    mode = ("L" if image.mode in ("1", "L") else "RGB") + ("A" if image.mode == "RGBA" else "")
    samples = np.empty((image.height, image.width, len(mode)), np.uint8)
    for band in row_bands(samples):
        part = image.crop((0, band.start, image.width, band.stop))
        samples[band] = np.asarray(part.convert(mode)).reshape(-1, *samples.shape[1:])
    return samples


def row_bands(samples: np.ndarray) -> Iterator[slice]:
    """Divide the rows of (H, W, C) samples into bands of even height that need little memory."""
    height, width = samples.shape[:2]
    step = max(2, _BAND // width // 2 * 2)
    return (slice(top, min(top + step, height)) for top in range(0, height, step))
