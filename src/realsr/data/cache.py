"""A cache of decoded images: a memory-mapped file, so that a crop needs no decoding.

The file holds, in this order:
- the pixels of all images, (h, w, 3) uint8 each;
- an index in JSON: `images`, a list of [path, file size, mtime_ns, offset, height, width], and
  `pages`, checksums of sample pages, which detect pixels lost in a power failure;
- the SHA-256 and the length of the index, and the name of the format.
"""

import hashlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import IO, Any

import numpy as np

from realsr.core.errors import UserError
from realsr.core.files import hold_lock, parse_json, replace_file, temporary_path
from realsr.core.progress import Progress
from realsr.core.workers import count_workers, map_items
from realsr.data.pairs import Pair, image_size
from realsr.imaging import ImageError, read_uint8

logger = logging.getLogger("realsr")
FORMAT = b"realsr02"
_END = 32 + 8 + len(FORMAT)  # bytes of the SHA-256, the index's length, the format's name
_PAGES, _PAGE_SIZE = 64, 4096  # number and bytes of the pages that are checked on opening
_OTHER_DISK = "set cache_dir=FOLDER on another disk, or trainer.cache=false for no cache"


class DecodedImages:
    """Image files, decoded on first use; each process holds up to `memory` bytes of them.

    An unreadable file raises ImageError.
    """

    def __init__(self, paths: Sequence[Path], memory: int = 2**30):
        self._paths, self._memory = list(paths), memory
        self._images: dict[int, np.ndarray] = {}
        self._free = memory

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> np.ndarray:
        if index in self._images:
            return self._images[index]
        image = read_uint8(self._paths[index])
        if image.nbytes <= self._free:
            self._images[index] = image
            self._free -= image.nbytes
        return image

    def __reduce__(self) -> tuple[Any, ...]:
        return DecodedImages, (self._paths, self._memory)


class MappedImages:
    """Views of a cache file, which each process maps into memory on first use."""

    def __init__(self, file: Path, digest: bytes, places: Sequence[tuple[int, int, int]]):
        self._file, self._digest, self._places = file, digest, places
        self._pixels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> np.ndarray:
        if self._pixels is None:
            with self._file.open("rb") as file:
                # With another index, the offsets would point to pixels of other images.
                if _read_end(file)[0] != self._digest:
                    raise UserError(
                        f"{self._file}: another command has rewritten this cache for other images; "
                        "repeat the command, and set a separate cache_dir=FOLDER for each set of "
                        "images"
                    )
                self._pixels = np.memmap(file, np.uint8, "r").view(np.ndarray)
        offset, height, width = self._places[index]
        return self._pixels[offset : offset + 3 * height * width].reshape(height, width, 3)

    def __reduce__(self) -> tuple[Any, ...]:
        return MappedImages, (self._file, self._digest, self._places)


Images = DecodedImages | MappedImages | Sequence[np.ndarray]
"""Decoded images by index: (h, w, 3) uint8 RGB, read-only."""


class PairImages:
    """The decoded LR and HR of pairs. images: LR and HR of the first pair, of the second, …"""

    def __init__(self, images: Images):
        self._images = images

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self._images) // 2

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return LR (h, w, 3) and HR (s h, s w, 3) of a pair, uint8."""
        return self._images[2 * index], self._images[2 * index + 1]


def decode_pairs(pairs: Sequence[Pair]) -> PairImages:
    """Return the images of pairs without a cache file; see `DecodedImages`."""
    return PairImages(DecodedImages(_files(pairs)))


def cache_pairs(folder: Path, pairs: Sequence[Pair]) -> PairImages:
    """Return the images of pairs from the cache file `folder/pairs.u8`; see `cache_images`."""
    return PairImages(cache_images(folder / "pairs.u8", _files(pairs)))


def cache_images(file: Path, paths: Sequence[Path]) -> MappedImages:
    """Return images from a cache file; write the file first if any image is missing or has changed.

    One process writes it, the others wait. Raises ImageError for an unreadable image, UserError if
    the cache cannot be written; no partial file remains.
    """
    if (images := open_cache(file, paths)) is not None:
        return images
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with hold_lock(file.with_name(f".{file.name}.lock"), f"{file}: cache"):
            images = open_cache(file, paths)  # another process may have written it meanwhile
            if images is None:
                _make_cache(file, paths)
                images = open_cache(file, paths)
    except OSError as error:
        raise UserError(
            f"the cache {file} cannot be written ({error.strerror or error}): {_OTHER_DISK}"
        ) from error
    if images is None:
        raise UserError(f"{file}: images changed while they were decoded: repeat the command")
    return images


def open_cache(file: Path, paths: Sequence[Path]) -> MappedImages | None:
    """Return images from a cache file; None if it is damaged or lacks one of them.

    Images are identified by path, size and modification time.
    """
    try:
        with file.open("rb") as stream:
            digest, length = _read_end(stream)
            end = stream.seek(-_END - length, os.SEEK_END)
            text = stream.read(length)
            if hashlib.sha256(text).digest() != digest:
                return None
            index = parse_json(text)
            if _checksums(stream, end) != index["pages"]:
                return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    places = {(path, size, time): place for path, size, time, *place in index["images"]}
    try:
        images = [places[_status(path)] for path in paths]
    except (KeyError, OSError):
        return None
    if not all(
        0 <= offset <= offset + 3 * height * width <= end for offset, height, width in images
    ):
        return None
    return MappedImages(file, digest, [(offset, height, width) for offset, height, width in images])


def _make_cache(file: Path, paths: Sequence[Path]) -> None:
    if file.exists():
        logger.info("%s: some images have changed or are missing; rewriting the cache", file)
    status = [_status(path) for path in paths]
    sizes = [image_size(path) for path in paths]
    offsets = list(accumulate((3 * width * height for width, height in sizes), initial=0))
    file.unlink(missing_ok=True)  # outdated, and its space is needed
    free = shutil.disk_usage(file.parent).free
    if offsets[-1] > free:
        raise UserError(
            f"{file.parent}: the decoded images need {offsets[-1] / 1e9:.3g} GB, but only "
            f"{free / 1e9:.3g} GB are free: {_OTHER_DISK}"
        )
    with (
        replace_file(file) as stream,
        Progress(f"cache, images of {file.stem}", total=len(paths)) as progress,
    ):
        index = list[list[Any]]()
        write = partial(_write_image, temporary_path(file))
        items = zip(paths, offsets, offsets[1:], strict=False)
        for shape in map_items(write, items, count_workers(len(paths), None)):
            index.append([*status[len(index)], offsets[len(index)], *shape])
            progress.advance()
        text = json.dumps({"images": index, "pages": _checksums(stream, offsets[-1])}).encode()
        stream.seek(offsets[-1])
        stream.write(
            text + hashlib.sha256(text).digest() + len(text).to_bytes(8, "little") + FORMAT
        )


def _files(pairs: Sequence[Pair]) -> list[Path]:
    return [path for pair in pairs for path in (pair.lr, pair.hr)]


def _status(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return str(path.absolute()), status.st_size, status.st_mtime_ns


def _write_image(target: Path, item: tuple[Path, int, int]) -> tuple[int, int]:
    """Decode an image into bytes `first` to `last` - 1 of a file; return its height and width."""
    path, first, last = item
    image = read_uint8(path)
    if image.nbytes != last - first:
        raise ImageError(f"{path} does not have the size in its header: replace or remove it")
    with target.open("r+b") as stream:
        stream.seek(first)
        stream.write(image.data)
    return image.shape[0], image.shape[1]


def _checksums(stream: IO[bytes], end: int) -> list[int]:
    """Return the CRC-32 of pages at regular distances in the first `end` bytes."""
    checksums = []
    for number in range(_PAGES):
        stream.seek(number * max(0, end - _PAGE_SIZE) // (_PAGES - 1))
        checksums.append(zlib.crc32(stream.read(min(_PAGE_SIZE, end))))
    return checksums


def _read_end(stream: IO[bytes]) -> tuple[bytes, int]:
    """Return the index's SHA-256 and length. Raises OSError or ValueError if the end is invalid."""
    stream.seek(-_END, os.SEEK_END)
    end = stream.read(_END)
    if end[40:] != FORMAT:
        raise ValueError("not a cache of this format, or incomplete")
    return end[:32], int.from_bytes(end[32:40], "little")
