"""Images on disk: reading and writing them. Every failure is an ImageError naming the file."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from realsr.core.files import write_bytes
from realsr.imaging.decode import decode_photo
from realsr.imaging.encode import encode_samples
from realsr.imaging.photo import Metadata, Photo, fit_metadata
from realsr.imaging.picture import (
    ImageError,
    Picture,
    picture_from_samples,
    rgb_uint8_from_samples,
    samples_from_picture,
)
from realsr.imaging.writing import naming, open_photo_writer

logger = logging.getLogger("realsr")


def read_picture(path: Path, damaged: str = "refuse") -> Picture:
    """Read a PNG, JPEG, TIFF, WebP or BMP file of 8 or 16 bits, EXIF orientation applied.

    damaged: `accept` takes what can be decoded of a damaged file, and a log line names it and tells the reason.

    Raises ImageError for a file that is missing, truncated, damaged or of another kind.
    """
    return picture_from_samples(_read(path, damaged, with_metadata=False).samples)


def read_uint8(path: Path, damaged: str = "refuse") -> np.ndarray:
    """Read an image as (H, W, 3) uint8 RGB: alpha dropped, 16 bit rounded to 8, orientation applied.

    damaged, and what it raises: see `read_picture`.
    """
    return rgb_uint8_from_samples(_read(path, damaged, with_metadata=False).samples)


def read_uint8_and_damage(path: Path, damaged: str = "refuse") -> tuple[np.ndarray, str | None]:
    """Read an image as `read_uint8` does; return it and what is wrong with its file, None for nothing.

    For worker processes, whose log lines nobody sees: `tell_damage` tells it to the user. Raises ImageError.
    """
    photo = decode_photo(_read_bytes(path), str(path), damaged, with_metadata=False)
    return rgb_uint8_from_samples(photo.samples), photo.damage


def tell_damage(path: Path, damage: str | None) -> None:
    """Write the log line of a damaged file that has been read; damage: None for a sound one."""
    if damage is not None:
        logger.warning("%s: damaged (%s): what can be decoded of it is used", path, damage)


def read_photo(path: Path, damaged: str = "refuse") -> Photo:
    """Read an image file as `read_picture` does, but its samples as they are, with colour profile, EXIF, XMP and IPTC.

    The orientation is applied, and the metadata say so; previews in them are left out. One log line names all else
    that the file holds and that is left out: further pages and frames, texts, a profile that does not fit the samples
    (of a CMYK photo, which is read as RGB).

    damaged, and what it raises: see `read_picture`.
    """
    photo = _read(path, damaged, with_metadata=True)
    height, width, channels = photo.samples.shape
    metadata, misfits = fit_metadata(photo.metadata, height, width, channels)
    if omissions := (*photo.omissions, *misfits):
        logger.warning("%s: left out: %s", path, ", ".join(omissions))
    return replace(photo, metadata=metadata, omissions=omissions)


def _read(path: Path, damaged: str, with_metadata: bool) -> Photo:
    photo = decode_photo(_read_bytes(path), str(path), damaged, with_metadata)
    tell_damage(path, photo.damage)
    return photo


def _read_bytes(path: Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        if Path(path).is_symlink() and not Path(path).exists():
            raise ImageError(
                f"{path} is a link to {Path(path).readlink()}, which is missing. Mend or remove it."
            ) from error
        raise ImageError(
            f"{path} cannot be read ({error.strerror or error}). Check the path and its permissions."
        ) from error


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
    write_photo(path, Photo(samples_from_picture(picture), Metadata()))


def write_photo(path: Path, photo: Photo) -> None:
    """Write a photo with its metadata, atomically, as `open_photo_writer` does. Raises ImageError."""
    height, width, channels = photo.samples.shape
    with open_photo_writer(path, height, width, channels, 8 * photo.samples.itemsize, photo.metadata) as writer:
        writer.write(photo.samples)


def encode_uint8(image_hwc_rgb_uint8: np.ndarray, suffix: str) -> bytes:
    """The contents of an (H, W, 3) uint8 RGB array's file. Raises ImageError, ValueError."""
    image = image_hwc_rgb_uint8
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected an (H, W, 3) uint8 array, got {image.shape} {image.dtype}")
    return encode_samples(image, suffix)


def write_uint8(path: Path, image_hwc_rgb_uint8: np.ndarray, sync: bool = True) -> None:
    """Write an (H, W, 3) uint8 RGB array as `write_picture` does; `sync` as in `core.files.replace_file`.

    Raises ImageError, ValueError.
    """
    with naming(path):
        write_bytes(path, encode_uint8(image_hwc_rgb_uint8, Path(path).suffix), sync)
