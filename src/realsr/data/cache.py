"""Images decoded once: a file of 8-bit pixels that is mapped into memory, so that a crop costs a copy, no decoding.

The file holds the pixels of one image after another, (h, w, 3) uint8 each; then an index in JSON, with `images`, for
each [path, size of its file, mtime_ns, offset, height, width], and `pages`, the checksums of some places; then the
index's SHA-256 and length, and a word that names the format. What a making that was cut short leaves has no such end,
so it is never taken for whole, and one that has lost pixels in a power cut is found by the pages.
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
from typing import IO, Any, Protocol

import numpy as np

from realsr.core.errors import UserError
from realsr.core.files import open_locked, parse_json, sync_files, temporary_path
from realsr.core.progress import Progress
from realsr.core.workers import count_workers, map_items
from realsr.data.pairs import Pair, image_size
from realsr.imaging import ImageError, read_uint8

logger = logging.getLogger("realsr")
FORMAT = b"realsr02"
_END = 32 + 8 + len(FORMAT)  # bytes of the SHA-256, of the index's length, of the format's name
_PAGES, _PAGE = 64, 4096  # how many places are checked when a cache is opened, and their size in bytes
_ELSEWHERE = "give cache_dir=FOLDER on another disk, or do without: trainer.cache=false"


class Images(Protocol):
    """Decoded images by their number: (h, w, 3) uint8 RGB, not to be written to."""

    def __len__(self) -> int:
        """Count the images."""
        ...

    def __getitem__(self, index: int) -> np.ndarray:
        """Return an image."""
        ...


class DecodedImages:
    """Image files decoded when they are asked for, and kept until they take `memory` bytes.

    A copy in another process begins with none. Asking for a file that cannot be read raises ImageError.
    """

    def __init__(self, paths: Sequence[Path], memory: int = 2**30):
        self._paths, self._memory = list(paths), memory
        self._kept: dict[int, np.ndarray] = {}
        self._left = memory

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> np.ndarray:
        if index in self._kept:
            return self._kept[index]
        image = read_uint8(self._paths[index])
        if image.nbytes <= self._left:
            self._kept[index] = image
            self._left -= image.nbytes
        return image

    def __reduce__(self) -> tuple[Any, ...]:
        return DecodedImages, (self._paths, self._memory)


class MappedImages:
    """Views of a cache file, which each process maps into its memory when it first asks for an image."""

    def __init__(self, file: Path, digest: bytes, places: Sequence[tuple[int, int, int]]):
        self._file, self._digest, self._places = file, digest, places
        self._pixels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> np.ndarray:
        if self._pixels is None:
            self._pixels = self._map()
        offset, height, width = self._places[index]
        return self._pixels[offset : offset + 3 * height * width].reshape(height, width, 3)

    def __reduce__(self) -> tuple[Any, ...]:
        return MappedImages, (self._file, self._digest, self._places)

    def _map(self) -> np.ndarray:
        with self._file.open("rb") as file:
            if _read_end(file)[0] != self._digest:  # other offsets: the pixels would be of anything
                raise UserError(
                    f"{self._file}: has been made again for other images since this training began; repeat the "
                    "command, and give trainings on other images a cache_dir=FOLDER of their own"
                )
            return np.memmap(file, np.uint8, "r").view(np.ndarray)


class PairImages:
    """The decoded LR and HR of pairs. `images` has LR and HR of the first pair, then of the second, and so on."""

    def __init__(self, images: Images):
        self._images = images

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self._images) // 2

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return LR (h, w, 3) and HR (s h, s w, 3) of a pair, uint8."""
        return self._images[2 * index], self._images[2 * index + 1]


def decode_pairs(pairs: Sequence[Pair], memory: int = 2**30) -> PairImages:
    """Return the images of pairs without a cache: decoded when asked for, `memory` bytes of them kept a process."""
    return PairImages(DecodedImages(_files(pairs), memory))


def cache_pairs(folder: Path, pairs: Sequence[Pair], workers: int | None) -> PairImages:
    """Return the images of pairs from `folder/pairs.u8`, which is made first where it has to be (`cache_images`)."""
    return PairImages(cache_images(folder / "pairs.u8", _files(pairs), workers))


def cache_images(file: Path, paths: Sequence[Path], workers: int | None) -> MappedImages:
    """Return images from a cache file; where it is missing or lacks one as it is now, it is made of these first.

    Several processes may ask at once: one makes it, the others wait. Raises ImageError for an image that cannot be
    read, UserError where the cache cannot be written or the disk has no room; nothing half-made stays.
    """
    images = open_cache(file, paths)
    if images is None:
        make_cache(file, paths, workers)
        images = open_cache(file, paths)
    if images is None:
        raise UserError(f"{file}: the images have changed while they were decoded: repeat the command")
    return images


def open_cache(file: Path, paths: Sequence[Path]) -> MappedImages | None:
    """Return images from a cache file, or None where one of them is not in it, by path, size and time."""
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
    except KeyError:
        return None
    if not all(0 <= offset <= offset + 3 * height * width <= end for offset, height, width in images):
        return None
    return MappedImages(file, digest, [(offset, height, width) for offset, height, width in images])


def make_cache(file: Path, paths: Sequence[Path], workers: int | None) -> None:
    """Decode images into a cache file, under a temporary name that is renamed; raises as `cache_images` does."""
    if file.exists():
        logger.info("%s: some images have changed or are not in it; it is made again", file)
    status = [_status(path) for path in paths]
    sizes = [image_size(path) for path in paths]
    offsets = list(accumulate((3 * width * height for width, height in sizes), initial=0))
    temporary = temporary_path(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open_locked(temporary) as stream:
            if open_cache(file, paths) is not None:  # another process has made it in the meantime
                temporary.unlink()
                return
            try:
                file.unlink(missing_ok=True)  # it is of no use, and its room is needed
                _check_room(file.parent, offsets[-1])
                shapes = []
                with Progress(f"cache, {file.stem}", total=len(paths)) as progress:
                    items = zip(paths, offsets, offsets[1:], strict=False)
                    write = partial(_write_image, temporary)
                    for shape in map_items(write, items, count_workers(len(paths), workers)):
                        shapes.append(shape)
                        progress.advance()
                index = [[*s, offset, *shape] for s, offset, shape in zip(status, offsets, shapes, strict=False)]
                _write_end(stream, offsets[-1], index)
                temporary.replace(file)
                sync_files([file])
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise UserError(f"the cache {file} cannot be made ({error.strerror or error}): {_ELSEWHERE}") from error


def _files(pairs: Sequence[Pair]) -> list[Path]:
    return [path for pair in pairs for path in (pair.lr, pair.hr)]


def _status(path: Path) -> tuple[str, int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise ImageError(f"{path} cannot be read ({error.strerror or error}). Check the path.") from error
    return str(path.absolute()), status.st_size, status.st_mtime_ns


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder}: the decoded images take {needed / 1e9:.3g} GB, but only {free / 1e9:.3g} GB are free: "
            f"{_ELSEWHERE}"
        )


def _write_image(target: Path, item: tuple[Path, int, int]) -> tuple[int, int]:
    """Decode an image into its place from byte `first` to `last`, and return its height and width."""
    path, first, last = item
    image = read_uint8(path)
    if image.nbytes != last - first:
        raise ImageError(f"{path} does not have the size that its header tells. Make it again, or remove it.")
    with target.open("r+b") as stream:
        stream.seek(first)
        stream.write(image.data)
    return image.shape[0], image.shape[1]


def _write_end(stream: IO[bytes], offset: int, index: list[list[Any]]) -> None:
    text = json.dumps({"images": index, "pages": _checksums(stream, offset)}).encode()
    stream.seek(offset)
    stream.write(text + hashlib.sha256(text).digest() + len(text).to_bytes(8, "little") + FORMAT)
    stream.flush()
    os.fsync(stream.fileno())  # the pixels are on the disk before the name says that they are


def _checksums(stream: IO[bytes], end: int) -> list[int]:
    """Return the CRC-32 of pages that are spread evenly over the first `end` bytes."""
    checksums = []
    for number in range(_PAGES):
        stream.seek(number * max(0, end - _PAGE) // (_PAGES - 1))
        checksums.append(zlib.crc32(stream.read(min(_PAGE, end))))
    return checksums


def _read_end(stream: IO[bytes]) -> tuple[bytes, int]:
    """Return the index's SHA-256 and length. Raises OSError, ValueError where the file has no such end."""
    stream.seek(-_END, os.SEEK_END)
    end = stream.read(_END)
    if end[40:] != FORMAT:
        raise ValueError("not a cache, of another format, or not whole")
    return end[:32], int.from_bytes(end[32:40], "little")
