"""Images on disk: reading and writing them. Every failure is an ImageError that names the file.

At most about three times the samples are in memory at once. Files are written row by row, whole or not at all.
"""

import contextlib
import io
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from realsr.core.errors import ImageError
from realsr.core.files import is_disk_full, replace_file
from realsr.imaging.bmp_webp import BmpEncoder, WebpEncoder, decode_bmp, decode_webp
from realsr.imaging.decoding import DamageError, open_image
from realsr.imaging.formats import Layout, check_format, explain_unread, identify_format
from realsr.imaging.jpeg import JpegEncoder, decode_jpeg
from realsr.imaging.photo import Metadata, Photo, fit_metadata, upright_metadata
from realsr.imaging.png import PngEncoder, decode_png
from realsr.imaging.samples import to_rgb_uint8
from realsr.imaging.tiff import count_tiff_pixels, decode_tiff
from realsr.imaging.tiff_encoder import TiffEncoder

logger = logging.getLogger("realsr")

_DECODERS = {
    "PNG": decode_png,
    "JPEG": decode_jpeg,
    "TIFF": decode_tiff,
    "WEBP": decode_webp,
    "BMP": decode_bmp,
}
_ENCODERS: dict[
    str, Callable[[BinaryIO, Layout, Metadata], Any]
] = {  # they take `rows` rows at a time
    "PNG": PngEncoder,
    "JPEG": JpegEncoder,
    "TIFF": TiffEncoder,
    "WEBP": WebpEncoder,
    "BMP": BmpEncoder,
}


def read_uint8(path: Path, damaged: str = "refuse") -> np.ndarray:
    """Read an image as (H, W, 3) uint8 RGB: alpha dropped, 16 bit rounded to 8, EXIF orientation applied.

    damaged: `accept` takes what can be decoded of a damaged file, and a log line names it and the reason.

    Raises ImageError for a file that is missing, truncated, damaged or of another kind.
    """
    image, damage = read_uint8_and_damage(path, damaged)
    tell_damage(path, damage)
    return image


def read_uint8_and_damage(path: Path, damaged: str = "refuse") -> tuple[np.ndarray, str | None]:
    """Read an image as `read_uint8` does, without a log line; return it and the damage of its file, None for nothing.

    For worker processes, whose log lines nobody sees: their parent calls `tell_damage`. Raises ImageError.
    """
    photo = decode_photo(_read_bytes(path), str(path), damaged, with_metadata=False)
    return to_rgb_uint8(photo.samples), photo.damage


def tell_damage(path: Path, damage: str | None) -> None:
    """Write the log line of a damaged file that has been read; damage: None for a sound file."""
    if damage is not None:
        logger.warning("%s: damaged (%s): what can be decoded of it is used", path, damage)


def read_photo(path: Path, damaged: str = "refuse") -> Photo:
    """Read an image file's samples as they are, with colour profile, EXIF, XMP and IPTC.

    The orientation is applied, and the metadata say so; previews in them are left out. One log line names all else
    that the file holds and that is left out: further pages and frames, texts, a profile that does not fit the samples
    (of a CMYK photo, which is read as RGB).

    damaged, and what it raises: see `read_uint8`.
    """
    photo = decode_photo(_read_bytes(path), str(path), damaged)
    tell_damage(path, photo.damage)
    height, width, channels = photo.samples.shape
    metadata, misfits = fit_metadata(photo.metadata, height, width, channels)
    if omissions := (*photo.omissions, *misfits):
        logger.warning("%s: left out: %s", path, ", ".join(omissions))
    return replace(photo, metadata=metadata, omissions=omissions)


def count_pixels(path: Path) -> int:
    """Return the number of pixels in an image file's header; 0 where it cannot be read."""
    try:
        with path.open("rb") as stream:
            if identify_format(stream.read(12)) == "TIFF":
                return count_tiff_pixels(path)
        with path.open("rb") as stream, open_image(stream) as image:
            return image.width * image.height
    # As in decoding; the reason is in the error when the image is read.
    except Exception:
        return 0


def _read_bytes(path: Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        reason, advice = error.strerror or error, "Check the path and its permissions."
        if Path(path).is_symlink() and not Path(path).exists():
            reason, advice = (
                f"a link to {Path(path).readlink()}, which is missing",
                "Repair or remove it.",
            )
        raise ImageError(f"{path} cannot be read ({reason}). {advice}") from error


def decode_photo(
    data: bytes, name: str, damaged: str = "refuse", with_metadata: bool = True
) -> Photo:
    """Decode an image file's contents, EXIF orientation applied.

    data: the contents of a PNG, JPEG, TIFF, WebP or BMP file. name: what messages call the file.
    damaged: `accept` takes what can be decoded of damaged contents, and the photo's `damage` is the reason.

    Of an animation or a file of several pages, the first image that is no preview. Raises ImageError for anything
    damaged, truncated, of another kind, or too large for the machine's memory.
    """
    if not data:
        raise ImageError(f"{name} is empty (0 bytes). Copy or download it again, or remove it.")
    kind = identify_format(data)
    if kind not in _DECODERS:
        raise ImageError(explain_unread(name, kind))
    try:
        content = _DECODERS[kind](data, name, damaged, with_metadata)
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(
            f"{name} needs more memory than there is. Free some, or shrink the image."
        ) from error
    # Damaged files raise whatever their decoder stumbles over: OSError, SyntaxError, zlib.error, ...
    except Exception as error:
        reason = str(error) if isinstance(error, DamageError) else "its data cannot be decoded"
        raise ImageError(
            f"{name} is damaged or incomplete: {reason}. Copy or download it again, or remove it."
        ) from error
    samples = np.ascontiguousarray(_orient(content.samples, content.orientation))
    metadata, omissions = upright_metadata(content.metadata)
    return Photo(samples, metadata, content.damage, (*content.omissions, *omissions))


def _orient(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Undo the camera's turn (TIFF 6.0, tag 274): (H, W, C) -> (H, W, C) or (W, H, C)."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples


class PhotoWriter:
    """Writes an image into an empty file, from bands of any height.

    The format follows the suffix of `path`, which messages name. WebP has no gray and gets RGB channels of equal value.
    Raises ImageError as `check_format` does.
    """

    def __init__(self, file: BinaryIO, path: Path, layout: Layout, metadata: Metadata):
        kind = check_format(path.suffix, layout.height, layout.width, layout.channels, layout.bits)
        self._path, self._rows_left, self._fill = path, layout.height, 0
        self._channels = list(range(layout.channels))  # of the image, by the file's
        if layout.channels <= 2 and kind == "WEBP":
            self._channels = [0, 0, *self._channels]
        file_layout = replace(layout, channels=len(self._channels))
        metadata, omissions = fit_metadata(
            metadata, layout.height, layout.width, len(self._channels), kind
        )
        if omissions:
            logger.warning("%s: left out: %s", path, ", ".join(omissions))
        self._encoder = _ENCODERS[kind](file, file_layout, metadata)
        shape = min(self._encoder.rows, layout.height), layout.width, layout.channels
        self._buffer = np.empty(shape, np.uint16 if layout.bits == 16 else np.uint8)

    def write(self, rows: np.ndarray) -> None:
        """Append (h, W, C) uint8 or uint16 rows of the image, any number of them.

        Raises ImageError where the disk refuses, OSError where it is full, ValueError for rows of another form or too
        many.
        """
        shape, dtype = self._buffer.shape[1:], self._buffer.dtype
        if rows.ndim != 3 or rows.shape[1:] != shape or rows.dtype != dtype:
            raise ValueError(f"expected rows of {shape} {dtype}, got {rows.shape} {rows.dtype}")
        if len(rows) > self._rows_left:
            raise ValueError(f"{len(rows)} rows, but the image has only {self._rows_left} more")
        self._rows_left -= len(rows)
        with _naming(self._path):
            while len(rows):
                part = rows[: len(self._buffer) - self._fill]
                rows = rows[len(part) :]
                self._buffer[self._fill : self._fill + len(part)] = part
                self._fill += len(part)
                if self._fill == len(self._buffer):
                    self._flush()

    def finish(self) -> None:
        """Complete the file. Raises ValueError if rows are missing, else as `write`."""
        if self._rows_left:
            raise ValueError(f"{self._rows_left} rows of the image are missing")
        with _naming(self._path):
            if self._fill:
                self._flush()
            self._encoder.finish()

    def _flush(self) -> None:
        rows = self._buffer[: self._fill]
        self._encoder.write(
            rows if len(self._channels) == rows.shape[2] else rows[..., self._channels]
        )
        self._fill = 0


@contextlib.contextmanager
def open_photo_writer(
    path: Path,
    height: int,
    width: int,
    channels: int,
    bits: int,
    metadata: Metadata = Metadata(),  # noqa: B008  frozen
    sync: bool = True,
) -> Iterator[PhotoWriter]:
    """Open an image file to be written from the top, in the memory of a few rows (BMP, WebP: of the whole image).

    At the end of the block the file is complete and takes its name; an error or an interruption in the block leaves
    nothing behind and an older file untouched. The format follows the suffix: JPEG has quality 95 and full-resolution
    colour (4:4:4), all others are lossless. Sizes in EXIF and XMP are set to this size. One log line names all metadata
    that the format cannot hold.

    channels: 1 gray, 2 gray + alpha, 3 RGB, 4 RGBA; bits: 8 or 16 per sample; sync: see `core.files.replace_file`.

    Raises ImageError, which names the file, for what the format cannot hold (see `check_format`) before the block, and
    where the disk refuses; OSError, which names it, where the disk is full; ValueError at the end of the block if rows
    are missing.
    """
    path = Path(path)
    with contextlib.ExitStack() as stack:
        with _naming(path):
            file = stack.enter_context(replace_file(path, sync))
            writer = PhotoWriter(file, path, Layout(height, width, channels, bits), metadata)
        yield writer
        writer.finish()
        with _naming(path):
            stack.close()


def write_photo(path: Path, photo: Photo) -> None:
    """Write a photo with its metadata, as `open_photo_writer` does. Raises ImageError."""
    height, width, channels = photo.samples.shape
    with open_photo_writer(
        path, height, width, channels, 8 * photo.samples.itemsize, photo.metadata
    ) as writer:
        writer.write(photo.samples)


def write_uint8(path: Path, image_uint8: np.ndarray, sync: bool = True) -> None:
    """Write an (H, W, 3) uint8 RGB array as `open_photo_writer` does. Raises ImageError, ValueError."""
    height, width = image_uint8.shape[:2]
    with open_photo_writer(path, height, width, 3, 8, sync=sync) as writer:
        writer.write(image_uint8)


def encode_uint8(image_uint8: np.ndarray, suffix: str) -> bytes:
    """Return the contents of the file that `write_uint8` writes."""
    with io.BytesIO() as file:
        writer = PhotoWriter(file, Path(f"image{suffix}"), Layout.of(image_uint8), Metadata())
        writer.write(image_uint8)
        writer.finish()
        return file.getvalue()


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn a failure to write `path` into an ImageError that names it. A full disk, which concerns all files, stays."""
    try:
        yield
    except (ImageError, OSError) as error:
        if isinstance(error, OSError) and is_disk_full(error):
            raise
        reason = str(error)
        if isinstance(error, OSError):  # without the system's reason it comes from an encoder
            reason = (
                f"{error.strerror}: check the folder"
                if error.strerror
                else "the image cannot be encoded"
            )
        raise ImageError(f"{path} cannot be written: {reason.rstrip('.')}.") from error
