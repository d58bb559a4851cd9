"""Writing files whole or not at all."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from realsr.core.errors import ImageError
from realsr.core.files import is_disk_full, replace_file
from realsr.imaging.encode import SampleEncoder
from realsr.imaging.formats import Layout
from realsr.imaging.photo import Metadata


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
