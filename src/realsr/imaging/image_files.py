"""Images on disk: reading and writing them. Every failure is an ImageError naming the file.

libjpeg-turbo decodes gray and RGB JPEG, tifffile TIFF, OpenCV 16-bit PNG, which Pillow cannot hold, and
Pillow all else. What the libraries do not tell about damage, and about what they leave out, is found by the modules of
each format. At most about three times the samples are held at once.
"""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from realsr.core.files import write_bytes
from realsr.imaging.bmp import decode_bmp
from realsr.imaging.decoding import DamageError, Decoder, no_pixel_limit
from realsr.imaging.formats import READ_FORMATS, explain_unread, identify_format
from realsr.imaging.jpeg import decode_jpeg
from realsr.imaging.photo import Metadata, Photo, fit_metadata, upright_metadata
from realsr.imaging.picture import (
    ImageError,
    Picture,
    picture_from_samples,
    rgb_uint8_from_samples,
    samples_from_picture,
)
from realsr.imaging.png import decode_png
from realsr.imaging.tiff import count_tiff_pixels, decode_tiff
from realsr.imaging.webp import decode_webp
from realsr.imaging.writing import encode_samples, naming, open_photo_writer

logger = logging.getLogger("realsr")

_DECODERS: dict[str | None, Decoder] = {
    "PNG": decode_png,
    "JPEG": decode_jpeg,
    "TIFF": decode_tiff,
    "WEBP": decode_webp,
    "BMP": decode_bmp,
}


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


def count_pixels(path: Path) -> int:
    """Return how many pixels an image file says that it has, without decoding it; 0 where it does not tell."""
    try:
        with path.open("rb") as stream:
            if identify_format(stream.read(12)) == "TIFF":
                return count_tiff_pixels(path)
        with no_pixel_limit(), Image.open(path, formats=READ_FORMATS) as image:
            return image.width * image.height
    # As in decoding; what is wrong is told when the image is read.
    except Exception:
        return 0


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


def decode_photo(data: bytes, name: str, damaged: str = "refuse", with_metadata: bool = True) -> Photo:
    """Decode an image file's contents, EXIF orientation applied.

    data: the contents of a PNG, JPEG, TIFF, WebP or BMP file.
    name: what messages call the file.
    damaged: `accept` takes what can be decoded of damaged contents, and the photo's `damage` tells the reason.

    Of an animation or a file of several pages, the first image that is no preview. Raises ImageError for anything
    damaged, truncated, of another kind, or too large for the machine's memory.
    """
    if not data:
        raise ImageError(f"{name} is empty (0 bytes). Copy or download it again, or remove it.")
    kind = identify_format(data)
    if kind not in _DECODERS:
        raise ImageError(explain_unread(name, kind))
    try:
        with no_pixel_limit():
            content = _DECODERS[kind](data, name, damaged, with_metadata)
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(f"{name} needs more memory than there is. Free some, or shrink the image.") from error
    # Damaged files raise whatever their decoder stumbles over: OSError, SyntaxError, zlib.error, ...
    except Exception as error:
        reason = str(error) if isinstance(error, DamageError) else "its data cannot be decoded"
        raise ImageError(
            f"{name} is damaged or incomplete: {reason}. Copy or download it again, or remove it."
        ) from error
    samples = np.ascontiguousarray(_orient(content.samples, content.orientation))
    if not with_metadata:
        return Photo(samples, Metadata(), content.damage)
    metadata, unreadable = upright_metadata(content.metadata)
    return Photo(samples, metadata, content.damage, (*content.omissions, *unreadable))


def _orient(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Undo the camera's turn (TIFF 6.0, tag 274): (H, W, C) -> (H, W, C) or (W, H, C)."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples
