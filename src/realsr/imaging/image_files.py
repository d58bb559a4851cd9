"""Reading and writing of image files. Every failure is an ImageError that names the file.

Reading and writing need at most about three times the memory of the samples. Files are written by
rows and atomically.
"""

import contextlib
import io
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from realsr.core.errors import ImageError
from realsr.core.files import is_disk_full, replace_file
from realsr.imaging.formats import (
    DamageError,
    Layout,
    check_format,
    explain_unread,
    identify_format,
)
from realsr.imaging.jpeg import JpegEncoder, decode_jpeg
from realsr.imaging.photo import Metadata, Photo, fit_metadata, upright_metadata
from realsr.imaging.pillow_images import PillowEncoder, decode_bmp, decode_webp, open_image
from realsr.imaging.png import decode_png
from realsr.imaging.row_encoders import PngEncoder, TiffEncoder
from realsr.imaging.samples import to_rgb_uint8
from realsr.imaging.tiff import count_tiff_pixels, decode_tiff

logger = logging.getLogger("realsr")

# From the contents of a file, its name in messages, `damaged` (as in `read_uint8`), and
# `with_metadata` (as in `_read_upright`), decoders return a photo and its orientation.
_DECODERS = {
    "PNG": decode_png,
    "JPEG": decode_jpeg,
    "TIFF": decode_tiff,
    "WEBP": decode_webp,
    "BMP": decode_bmp,
}
_ENCODERS: dict[str, Callable[[BinaryIO, Layout, Metadata], Any]] = {
    "PNG": PngEncoder,
    "JPEG": JpegEncoder,
    "TIFF": TiffEncoder,
    "WEBP": partial(PillowEncoder, "WEBP"),
    "BMP": partial(PillowEncoder, "BMP"),
}


def read_uint8(path: Path, damaged: str = "refuse") -> np.ndarray:
    """Read an image as RGB (H, W, 3) uint8.

    Alpha is dropped, 16 bit is rounded to 8, and the EXIF orientation is applied.

    damaged: `accept` decodes as much of a damaged file as possible and logs the damage. The
        default is for files that this package has written; stages pass the user's choice.

    Raises ImageError for a file that is missing, truncated, damaged or not a supported image.
    """
    image, damage = read_uint8_and_damage(path, damaged)
    log_damage(path, damage)
    return image


def read_uint8_and_damage(path: Path, damaged: str) -> tuple[np.ndarray, str | None]:
    """Read an image as `read_uint8` does, and return it and the damage of its file (or None).

    Nothing is logged. For worker processes, whose parent calls `log_damage`. Raises ImageError.
    """
    photo = _read_upright(path, damaged, with_metadata=False)
    return to_rgb_uint8(photo.samples), photo.damage


def log_damage(path: Path, damage: str | None) -> None:
    """Log the damage of a file that has been decoded in part; damage: None for an intact file."""
    if damage is not None:
        logger.warning("%s: damaged (%s): the part that can be decoded is used", path, damage)


def read_photo(path: Path, damaged: str = "refuse") -> Photo:
    """Read the samples of an image file unconverted, with colour profile, EXIF, XMP and IPTC.

    The orientation is applied, and set to 1 in the metadata. Previews in the metadata are removed.
    One log line lists all other content that is left out, such as further pages and frames, texts,
    and a colour profile that does not fit the samples (that of a CMYK photo, which is read as RGB).

    `damaged` and errors: as for `read_uint8`.
    """
    photo = _read_upright(path, damaged, with_metadata=True)
    log_damage(path, photo.damage)
    metadata, misfits = fit_metadata(photo.metadata, Layout.of(photo.samples))
    if omissions := (*photo.omissions, *misfits):
        logger.warning("%s: left out: %s", path, ", ".join(omissions))
    return replace(photo, metadata=metadata, omissions=omissions)


def count_pixels(path: Path) -> int:
    """Return the number of pixels that an image file's header states; 0 if it cannot be read."""
    try:
        with path.open("rb") as stream:
            kind = identify_format(stream.read(12))
            stream.seek(0)
            if kind == "TIFF":
                return count_tiff_pixels(stream, str(path))
            with open_image(stream) as image:
                return image.width * image.height
    except Exception:  # decoders raise many types; reading the image reports the reason
        return 0


def _read_bytes(path: Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        reason, advice = error.strerror or error, "Check the path and its permissions."
        if Path(path).is_symlink() and not Path(path).exists():
            reason = f"a link to {Path(path).readlink()}, which is missing"
            advice = "Repair or remove it."
        raise ImageError(f"{path} cannot be read ({reason}). {advice}") from error


def _read_upright(path: Path, damaged: str, with_metadata: bool) -> Photo:
    """Decode the first image of a file that is not a preview, and apply its orientation.

    with_metadata: False skips the search for further images in a JPEG.
    """
    data = _read_bytes(path)
    if not data:
        raise ImageError(f"{path} is empty (0 bytes). Copy or download it again, or remove it.")
    kind = identify_format(data)
    if kind not in _DECODERS:
        raise ImageError(explain_unread(path, kind))
    try:
        photo, orientation = _DECODERS[kind](data, str(path), damaged, with_metadata)
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(
            f"{path} needs more memory than is available. Free memory, or shrink the image."
        ) from error
    # Decoders raise many types for damaged files: OSError, SyntaxError, zlib.error, …
    except Exception as error:
        reason = str(error) if isinstance(error, DamageError) else "its data cannot be decoded"
        raise ImageError(
            f"{path} is damaged or incomplete: {reason}. Copy or download it again, or remove it."
        ) from error
    samples = np.ascontiguousarray(_orient(photo.samples, orientation))
    metadata, omissions = upright_metadata(photo.metadata)
    return Photo(samples, metadata, photo.damage, (*photo.omissions, *omissions))


def _orient(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an orientation (TIFF 6.0, tag 274): (H, W, C) -> (H, W, C) or (W, H, C)."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples


class PhotoWriter:
    """Writes an image into an empty file, from bands of any height.

    The suffix of `path` sets the format; messages name `path`. WebP has no gray, which becomes
    three equal channels.
    Raises ImageError as `check_format` does.
    """

    def __init__(self, file: BinaryIO, path: Path, layout: Layout, metadata: Metadata):
        kind = check_format(path.suffix, layout)
        self._path, self._remainder, self._fill = path, layout.height, 0
        is_gray_webp = layout.channels <= 2 and kind == "WEBP"
        file_layout = replace(layout, channels=layout.channels + 2) if is_gray_webp else layout
        metadata, omissions = fit_metadata(metadata, file_layout, kind)
        if omissions:
            logger.warning("%s: left out: %s", path, ", ".join(omissions))
        self._encoder = _ENCODERS[kind](file, layout, metadata)
        shape = min(self._encoder.rows, layout.height), layout.width, layout.channels
        self._buffer = np.empty(shape, np.uint16 if layout.bits == 16 else np.uint8)

    def write(self, rows: np.ndarray) -> None:
        """Append any number of rows of the image, (h, W, C) uint8 or uint16.

        Raises ImageError if the file cannot be written, OSError if the disk is full, ValueError for
        too many rows or rows of another shape or type.
        """
        shape, dtype = self._buffer.shape[1:], self._buffer.dtype
        if rows.ndim != 3 or rows.shape[1:] != shape or rows.dtype != dtype:
            raise ValueError(f"expected rows of {shape} {dtype}, got {rows.shape} {rows.dtype}")
        if len(rows) > self._remainder:
            raise ValueError(f"{len(rows)} rows, but the image has only {self._remainder} more")
        self._remainder -= len(rows)
        with _name_errors(self._path):
            while len(rows):
                part = rows[: len(self._buffer) - self._fill]
                rows = rows[len(part) :]
                self._buffer[self._fill : self._fill + len(part)] = part
                self._fill += len(part)
                if self._fill == len(self._buffer):
                    self._flush()

    def finish(self) -> None:
        """Complete the file. Raises ValueError if rows are missing, and errors as `write` does."""
        if self._remainder:
            raise ValueError(f"{self._remainder} rows of the image are missing")
        with _name_errors(self._path):
            if self._fill:
                self._flush()
            self._encoder.finish()

    def _flush(self) -> None:
        self._encoder.write(self._buffer[: self._fill])
        self._buffer = np.empty_like(self._buffer)  # the encoder still reads the rows
        self._fill = 0


@contextlib.contextmanager
def open_photo_writer(
    path: Path,
    layout: Layout,
    metadata: Metadata = Metadata(),  # noqa: B008  frozen
    sync: bool = True,
) -> Iterator[PhotoWriter]:
    """Open an image file for writing by rows from the top.

    Only a few rows are held in memory (BMP and WebP: the whole image). The file takes its name when
    it is complete, at the end of the block. After an error or an interruption in the block, an
    older file is unchanged and no other file remains. The suffix sets the format: JPEG has quality
    95 and full-resolution colour (4:4:4), all other formats are lossless. Image sizes in EXIF and
    XMP are updated. One log line lists the metadata that the format cannot hold.

    sync: see `core.files.replace_file`.

    Raises errors that name the file: ImageError before the block for an image that the format
    cannot hold (see `check_format`), and if the file cannot be written; OSError if the disk is
    full. Raises ValueError at the end of the block if rows are missing.
    """
    path = Path(path)
    with contextlib.ExitStack() as stack:
        with _name_errors(path):
            file = stack.enter_context(replace_file(path, sync))
            writer = PhotoWriter(file, path, layout, metadata)
        yield writer
        writer.finish()
        with _name_errors(path):
            stack.close()


def write_photo(path: Path, photo: Photo) -> None:
    """Write a photo with its metadata, as `open_photo_writer` does. Raises ImageError."""
    with open_photo_writer(path, Layout.of(photo.samples), photo.metadata) as writer:
        writer.write(photo.samples)


def write_uint8(path: Path, image_uint8: np.ndarray, sync: bool = True) -> None:
    """Write RGB (H, W, 3) uint8 as `open_photo_writer` does. Raises ImageError, ValueError."""
    height, width = image_uint8.shape[:2]
    with open_photo_writer(path, Layout(height, width, 3, 8), sync=sync) as writer:
        writer.write(image_uint8)


def encode_uint8(image_uint8: np.ndarray, suffix: str) -> bytes:
    """Return the contents of the file that `write_uint8` writes."""
    with io.BytesIO() as file:
        path = Path(f"image{suffix}")
        writer = PhotoWriter(file, path, Layout.of(image_uint8), Metadata())
        writer.write(image_uint8)
        writer.finish()
        return file.getvalue()


@contextlib.contextmanager
def _name_errors(path: Path) -> Iterator[None]:
    """Convert errors of writing `path` into an ImageError that names it.

    The error for a full disk, which concerns all files, is not converted.
    """
    try:
        yield
    except (ImageError, OSError) as error:
        if isinstance(error, OSError) and is_disk_full(error):
            raise
        reason = str(error)
        if isinstance(error, OSError):  # encoders raise it without strerror
            system = error.strerror
            reason = f"{system}: check the folder" if system else "the image cannot be encoded"
        raise ImageError(f"{path} cannot be written: {reason.rstrip('.')}.") from error
