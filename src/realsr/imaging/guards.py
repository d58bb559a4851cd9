"""What surrounds the decoders: no absurd sizes, and of the libraries neither limits nor chatter."""

import contextlib
import os
import threading
from collections.abc import Iterator

import cv2
from PIL import Image

from realsr.core.errors import ImageError


def check_size(width: int, height: int, name: str) -> None:
    """Refuse what a header claims but the machine cannot hold; nothing has been allocated yet."""
    needed, there = 4 * width * height, _machine_memory()
    if there is not None and needed > there:
        raise ImageError(
            f"{name} claims {width}x{height} pixels: {needed / 2**30:.0f} GiB, but the machine has "
            f"{there / 2**30:.0f} GiB of memory. Cut it into parts, or shrink it, with a program for images of this "
            "size."
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
