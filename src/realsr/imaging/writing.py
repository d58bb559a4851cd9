"""Image files written row by row, whole or not at all, in the format that a file name's suffix asks for."""

import contextlib
import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from realsr.core.errors import ImageError
from realsr.core.files import is_disk_full, replace_file
from realsr.imaging.bmp import BmpEncoder
from realsr.imaging.formats import Layout, check_format
from realsr.imaging.jpeg import JpegEncoder
from realsr.imaging.photo import Metadata, fit_metadata
from realsr.imaging.png import PngEncoder
from realsr.imaging.tiff_encoder import TiffEncoder
from realsr.imaging.webp import WebpEncoder

logger = logging.getLogger("realsr")


class _Encoder(Protocol):
    """Writes a file of one format; takes `rows` rows at a time, fewer only at the end."""

    rows: int

    def write(self, samples: np.ndarray) -> None: ...

    def finish(self) -> None: ...


_ENCODERS: dict[str, Callable[[BinaryIO, Layout, Metadata], _Encoder]] = {
    "PNG": PngEncoder,
    "JPEG": JpegEncoder,
    "TIFF": TiffEncoder,
    "WEBP": WebpEncoder,
    "BMP": BmpEncoder,
}


class SampleEncoder:
    """Writes an image into an empty file that is open for writing, from bands of any height.

    layout: the form of the samples. WebP has no gray and gets RGB channels of equal value. name: what log lines call
    the file. Raises ImageError as `check_format` does.
    """

    def __init__(self, file: BinaryIO, suffix: str, layout: Layout, metadata: Metadata, name: str):
        kind = check_format(suffix, layout.height, layout.width, layout.channels, layout.bits)
        self._layout, self._written, self._filled = layout, 0, 0
        self._as_colour = layout.channels <= 2 and kind == "WEBP"
        channels = layout.channels + 2 if self._as_colour else layout.channels
        file_layout = Layout(layout.height, layout.width, channels, layout.bits)
        metadata, omissions = fit_metadata(metadata, layout.height, layout.width, channels, kind)
        if omissions:
            logger.warning("%s: left out: %s", name, ", ".join(omissions))
        self._encoder = _ENCODERS[kind](file, file_layout, metadata)
        self._buffer = np.empty((min(self._encoder.rows, layout.height), *self._row_shape), self._dtype)

    @property
    def _row_shape(self) -> tuple[int, int]:
        return self._layout.width, self._layout.channels

    @property
    def _dtype(self) -> type[np.generic]:
        return np.uint16 if self._layout.bits == 16 else np.uint8

    def write(self, rows: np.ndarray) -> None:
        """Append (h, W, C) uint8 or uint16 rows. Raises ValueError for rows of another form, or too many."""
        if rows.ndim != 3 or rows.shape[1:] != self._row_shape or rows.dtype != self._dtype:
            raise ValueError(
                f"expected rows of {self._row_shape} {self._dtype.__name__}, got {rows.shape} {rows.dtype}"
            )
        if self._written + len(rows) > self._layout.height:
            raise ValueError(f"{self._written + len(rows)} rows for an image of {self._layout.height}")
        self._written += len(rows)
        while len(rows):
            part = rows[: len(self._buffer) - self._filled]
            rows = rows[len(part) :]
            if len(part) == len(self._buffer):
                self._encode(part)
                continue
            self._buffer[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            if self._filled == len(self._buffer):
                self._flush()

    def finish(self) -> None:
        """Complete the file. Raises ValueError if rows are missing."""
        if self._written < self._layout.height:
            raise ValueError(f"only {self._written} rows for an image of {self._layout.height}")
        if self._filled:
            self._flush()
        self._encoder.finish()

    def _flush(self) -> None:
        self._encode(self._buffer[: self._filled])
        self._filled = 0

    def _encode(self, rows: np.ndarray) -> None:
        if self._as_colour:
            rows = rows[..., [0, 0, 0, 1] if self._layout.channels == 2 else [0, 0, 0]]
        self._encoder.write(rows)


def encode_samples(samples: np.ndarray, suffix: str) -> bytes:
    """Encode an image in the format that `suffix` (such as ".png", in any case) names.

    samples: (H, W, C) uint8 or uint16, C = 1 gray, 2 gray + alpha, 3 RGB, 4 RGBA. What becomes of gray is told by
    `SampleEncoder`.

    Raises ImageError for what the format cannot hold, as `check_format` does.
    """
    with io.BytesIO() as file:
        encoder = SampleEncoder(file, suffix, Layout.of(samples), Metadata(), suffix)
        encoder.write(samples)
        encoder.finish()
        return file.getvalue()


class PhotoWriter:
    """An image file that `open_photo_writer` has opened."""

    def __init__(self, path: Path, encoder: SampleEncoder):
        self._path, self._encoder = path, encoder

    def write(self, rows: np.ndarray) -> None:
        """Append (h, W, C) uint8 or uint16 rows of the image, any number of them.

        Raises ImageError where the disk refuses, OSError where it is full, ValueError for rows of another form or too
        many.
        """
        with naming(self._path):
            self._encoder.write(rows)


@contextlib.contextmanager
def open_photo_writer(
    path: Path, height: int, width: int, channels: int, bits: int, metadata: Metadata | None = None
) -> Iterator[PhotoWriter]:
    """Open an image file to be written from the top, in the memory of a few rows (WebP: of the whole picture).

    At the end of the block the file is complete and takes its name; an error or an interruption in the block leaves
    nothing behind and an older file untouched. The format follows the suffix: JPEG has quality 95 and full-resolution
    colour (4:4:4), all others are lossless. Sizes that EXIF and XMP tell are set to this one. Gray becomes RGB in
    WebP. One log line names all metadata that the format cannot hold.

    channels: 1 gray, 2 gray + alpha, 3 RGB, 4 RGBA; bits: 8 or 16 per sample.

    Raises ImageError, which names the file, for what the format cannot hold (see `check_format`) before the block, and
    where the disk refuses; OSError, which names it, where the disk is full; ValueError at the end of the block if rows
    are missing.
    """
    path = Path(path)
    layout = Layout(height, width, channels, bits)
    with contextlib.ExitStack() as stack:
        with naming(path):
            file = stack.enter_context(replace_file(path))
            encoder = SampleEncoder(file, path.suffix, layout, metadata or Metadata(), str(path))
        yield PhotoWriter(path, encoder)
        with naming(path):
            encoder.finish()
            stack.close()


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn what goes wrong while writing `path` into an ImageError that names it.

    A full disk stays an OSError, since it concerns all files.
    """
    try:
        yield
    except (ImageError, OSError) as error:
        if isinstance(error, OSError) and is_disk_full(error):
            raise
        reason = str(error)
        if isinstance(error, OSError):  # without the system's reason it comes from an encoder
            reason = f"{error.strerror}: check the folder" if error.strerror else "the image cannot be encoded"
        raise ImageError(f"{path} cannot be written: {reason.rstrip('.')}.") from error
