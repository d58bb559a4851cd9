"""What the decoders of all formats share: errors, bounds of sizes, and copies out of Pillow's memory."""

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

_BAND = 2**20  # pixels that are copied out of Pillow's memory or converted at once


@dataclass(frozen=True)
class FileContent:
    """The content of a file: samples and metadata before orientation is applied, what is left out, what is wrong."""

    samples: np.ndarray
    metadata: Metadata
    omissions: list[str]
    orientation: int
    damage: str | None = None


class DamageError(ValueError):
    """Damaged contents of an image file; the message follows the file's name."""


def damage_error(name: str, damage: str) -> ImageError:
    """Return the error for a file that can be decoded in part with damaged=accept."""
    return ImageError(
        f"{name}: damaged ({damage}). Copy it again, remove it, or set damaged=accept to use what can be decoded."
    )


def content_error(name: str, content: str) -> ImageError:
    """Return the error for a sound file that holds `content`, which is not read."""
    return ImageError(
        f"{name} holds {content}, which realsr does not read. Save it as PNG or TIFF of 8-bit or 16-bit gray or RGB."
    )


def check_size(width: int, height: int, name: str) -> None:
    """Refuse a size in a header that exceeds the machine's memory, before anything is allocated."""
    size, available = 4 * width * height, _machine_memory()
    if available is not None and size > available:
        raise ImageError(
            f"{name} claims {width}x{height} pixels: {size / 2**30:.0f} GiB, but the machine has "
            f"{available / 2**30:.0f} GiB of memory. Cut it into parts, or shrink it, with a program for images of "
            "this size."
        )


def _machine_memory() -> int | None:
    """Return the machine's memory in bytes, None where the system does not report it."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


_limit_lock = threading.Lock()


def open_image(file: BinaryIO) -> Image.Image:
    """Open an image file by Pillow without its limit of pixels, which is global: hence the lock."""
    with _limit_lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file, formats=("PNG", "JPEG", "WEBP", "BMP"))
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def open_contents(data: bytes, name: str) -> Image.Image:
    """Open a file's contents as `open_image` does. Raises ImageError for a size that exceeds the machine's memory."""
    image = open_image(io.BytesIO(data))
    check_size(image.width, image.height, name)
    return image


def copy_samples(image: Image.Image) -> np.ndarray:
    """Return (H, W, C) uint8 of an 8-bit image, by bands: Pillow's own conversion holds the image four times."""
    image.load()
    mode = ("L" if image.mode in ("1", "L") else "RGB") + ("A" if image.mode == "RGBA" else "")
    samples = np.empty((image.height, image.width, len(mode)), np.uint8)
    for band in row_bands(samples):
        part = image.crop((0, band.start, image.width, band.stop))
        samples[band] = np.asarray(part.convert(mode)).reshape(-1, *samples.shape[1:])
    return samples


def row_bands(samples: np.ndarray) -> Iterator[slice]:
    """Cut the rows of (H, W, C) samples into bands of an even height that take little memory to compute with."""
    height, width = samples.shape[:2]
    step = max(2, _BAND // width // 2 * 2)
    return (slice(top, min(top + step, height)) for top in range(0, height, step))
