"""What the decoders of all formats share: errors, bounds of sizes, and copies out of Pillow's memory."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from PIL import Image

from realsr.core.errors import ImageError
from realsr.imaging.photo import Metadata

_BAND = 2**20  # pixels that are copied out of Pillow's memory or converted at once


@dataclass(frozen=True)
class FileContent:
    """What is in a file: samples before their orientation, metadata as they stand, what is left out, what is wrong."""

    samples: np.ndarray
    metadata: Metadata
    omissions: list[str]
    orientation: int
    damage: str | None = None


Decoder: TypeAlias = Callable[[bytes, str, str, bool], FileContent]
"""decode(data, name, damaged, with_metadata), one for each format; see `image_files.decode_photo`."""


class DamageError(ValueError):
    """Damaged contents of an image file: what is wrong, in words that follow the file's name."""


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
    """Refuse what a header claims but the machine cannot hold; nothing has been allocated yet."""
    needed, available = 4 * width * height, _machine_memory()
    if available is not None and needed > available:
        raise ImageError(
            f"{name} claims {width}x{height} pixels: {needed / 2**30:.0f} GiB, but the machine has "
            f"{available / 2**30:.0f} GiB of memory. Cut it into parts, or shrink it, with a program for images of "
            "this size."
        )


def _machine_memory() -> int | None:
    """Return the machine's memory in bytes; None on systems that do not tell as Unix does."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


_open_count = 0
_saved_limit: int | None = None
_count_lock = threading.Lock()


@contextlib.contextmanager
def no_pixel_limit() -> Iterator[None]:
    """Lift Pillow's guard against huge images: a 200-megapixel photo is no attack here.

    The guard is one global of Pillow's; counting the users keeps it right with several threads.
    """
    global _open_count, _saved_limit
    with _count_lock:
        if _open_count == 0:
            _saved_limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _open_count += 1
    try:
        yield
    finally:
        with _count_lock:
            _open_count -= 1
            if _open_count == 0:
                Image.MAX_IMAGE_PIXELS = _saved_limit


_quiet_lock = threading.Lock()


@contextlib.contextmanager
def quiet_opencv() -> Iterator[None]:
    """Keep OpenCV from printing about files that raise an ImageError anyway."""
    with _quiet_lock:
        level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            yield
        finally:
            cv2.utils.logging.setLogLevel(level)


def copy_out(image: Image.Image) -> np.ndarray:
    """(H, W, C) uint8 of a loaded image, by bands: Pillow's own way holds the picture four times."""
    mode = _mode_8(image)
    samples = np.empty((image.height, image.width, len(mode)), np.uint8)
    for band in row_bands(samples):
        part = image.crop((0, band.start, image.width, band.stop))
        samples[band] = np.asarray(part.convert(mode)).reshape(-1, *samples.shape[1:])
    return samples


def row_bands(samples: np.ndarray) -> Iterator[slice]:
    """Cut the rows of (H, W, C) samples into bands, so that what is computed of one takes little memory."""
    height, width = samples.shape[:2]
    step = max(1, _BAND // width)
    return (slice(top, min(top + step, height)) for top in range(0, height, step))


def _mode_8(image: Image.Image) -> str:
    """The mode (L, LA, RGB or RGBA) that keeps all that this 8-bit image holds."""
    gray = image.mode in ("1", "L", "LA")
    alpha = image.mode in ("LA", "RGBA") or "transparency" in image.info
    return ("L" if gray else "RGB") + ("A" if alpha else "")
