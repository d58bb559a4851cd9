"""Images on disk: finding, reading and writing them. Every failure is an ImageError naming the file."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from realsr.imaging.decode import decode_samples
from realsr.imaging.encode import IMAGE_SUFFIXES, encode_samples
from realsr.imaging.picture import (
    ImageError,
    Picture,
    picture_from_samples,
    rgb_uint8_from_samples,
    samples_from_picture,
    to_float,
    to_uint8,
)

__all__ = [
    "IMAGE_SUFFIXES",
    "ImageError",
    "Picture",
    "encode_picture",
    "encode_uint8",
    "list_images",
    "read_picture",
    "read_uint8",
    "to_float",
    "to_uint8",
    "write_bytes",
    "write_picture",
    "write_uint8",
]


def list_images(folder: Path) -> list[Path]:
    """The images directly in `folder` by suffix, sorted by name; hidden files are left out.

    Raises ImageError if the folder is missing, is a file, cannot be listed, or holds no images.
    """
    folder = Path(folder)
    if not folder.exists():
        raise ImageError(f"the folder {folder} does not exist. Check the path.")
    if not folder.is_dir():
        raise ImageError(f"{folder} is a file, but a folder of images is expected. Give the folder it is in.")
    try:
        entries = _visible(folder)
        images = [path for path in entries if _is_image(path)]
        if not images:
            raise ImageError(_no_images(folder, entries))
    except OSError as error:
        raise ImageError(f"the folder {folder} cannot be listed ({_reason(error)}). Check its permissions.") from error
    return images


def _visible(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if not p.name.startswith("."))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def _no_images(folder: Path, entries: list[Path]) -> str:
    others = sum(path.is_file() for path in entries)
    found = "it is empty" if not entries else f"{others} other file{'' if others == 1 else 's'}"
    subfolders = [p.name for p in entries if p.is_dir() and any(_is_image(q) for q in _visible(p))]
    message = f"the folder {folder} has no images ({found}); expected {' '.join(sorted(IMAGE_SUFFIXES))}."
    if subfolders:
        more = " and others" if len(subfolders) > 3 else ""
        message += f" Its subfolders {', '.join(subfolders[:3])}{more} have some: give one of these."
    return message


def read_picture(path: Path) -> Picture:
    """Read a PNG, JPEG, TIFF, WebP or BMP file of 8 or 16 bits, EXIF orientation applied.

    Raises ImageError for a file that is missing, truncated, damaged or of another kind.
    """
    return picture_from_samples(_read_samples(path))


def read_uint8(path: Path) -> np.ndarray:
    """Read an image as (H, W, 3) uint8 RGB: alpha dropped, 16 bit rounded to 8, orientation applied.

    Raises ImageError as `read_picture` does.
    """
    return rgb_uint8_from_samples(_read_samples(path))


def _read_samples(path: Path) -> np.ndarray:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be read ({_reason(error)}). Check the path and its permissions.") from error
    return decode_samples(data, str(path))


def encode_picture(picture: Picture, suffix: str) -> bytes:
    """The contents of an image file: values clamped and rounded half to even, format by `suffix`.

    Gray pictures get one channel, alpha is kept. JPEG has quality 95 and full-resolution colour (4:4:4),
    WebP and all others are lossless. Raises ImageError for what the format cannot hold.
    """
    return encode_samples(samples_from_picture(picture), suffix)


def write_picture(path: Path, picture: Picture) -> None:
    """Write a picture atomically, in the format of the path's suffix (see `encode_picture`).

    Raises ImageError, and then leaves nothing behind and an older file untouched.
    """
    with _naming(path):
        write_bytes(path, encode_picture(picture, Path(path).suffix))


def encode_uint8(image_hwc_rgb_uint8: np.ndarray, suffix: str) -> bytes:
    """The contents of an (H, W, 3) uint8 RGB array's file. Raises ImageError, ValueError."""
    image = image_hwc_rgb_uint8
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected an (H, W, 3) uint8 array, got {image.shape} {image.dtype}")
    return encode_samples(np.ascontiguousarray(image), suffix)


def write_uint8(path: Path, image_hwc_rgb_uint8: np.ndarray) -> None:
    """Write an (H, W, 3) uint8 RGB array as `write_picture` does. Raises ImageError, ValueError."""
    with _naming(path):
        write_bytes(path, encode_uint8(image_hwc_rgb_uint8, Path(path).suffix))


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn what goes wrong while writing `path` into an ImageError that names it."""
    try:
        yield
    except (ImageError, OSError) as error:
        reason = _reason(error) + ": check the folder" if isinstance(error, OSError) else str(error)
        raise ImageError(f"{path} cannot be written: {reason.rstrip('.')}.") from error


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: first `.NAME.tmp` in the same folder, then a rename.

    Raises OSError; the temporary file is then removed.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except BaseException:  # an interruption by the keyboard leaves nothing behind either
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
