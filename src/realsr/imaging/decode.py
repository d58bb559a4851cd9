"""File contents -> samples: strict decoding of PNG, JPEG, TIFF, WebP and BMP.

libjpeg-turbo decodes gray and RGB JPEG, `tiff_reading` TIFF, OpenCV 16-bit PNG, which Pillow cannot hold, and Pillow
all else. What the libraries do not tell about damage, and about what they leave out, is found by the modules of each
format. At most about three times the samples are held at once.
"""

import io
import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from realsr.imaging.bmp_header import read_bmp_header
from realsr.imaging.guards import check_size, no_pixel_limit, quiet_opencv
from realsr.imaging.jpeg_decoding import decode_jpeg
from realsr.imaging.jpeg_segments import jpeg_bits, list_further_pictures, read_jpeg_metadata
from realsr.imaging.photo import Metadata, Photo, find_orientation, upright_metadata
from realsr.imaging.picture import DamageError, ImageError, content_error, damage_error
from realsr.imaging.png_chunks import PNG_SIGNATURE, PngChunks, read_chunks
from realsr.imaging.tiff_layout import TIFF_HEADERS, read_layout
from realsr.imaging.tiff_metadata import read_tiff_metadata
from realsr.imaging.tiff_reading import read_tiff
from realsr.imaging.unread import explain_unread
from realsr.imaging.webp_chunks import read_webp_metadata

_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP")
_JPEG_COLOURS = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}  # by Pillow's modes
_GRAY, _GRAY_ALPHA = 0, 4  # colour types of PNG
_DEFLATE_RATIO = 1032  # deflate makes no more bytes than this of one
_MOST_16 = 2**30  # pixels that OpenCV decodes
_BAND = 2**20  # pixels that are copied out of Pillow's memory or swapped at once


@dataclass(frozen=True)
class _Content:
    """What is in a file: samples before their orientation, metadata as they stand, what is left out, what is wrong."""

    samples: np.ndarray
    metadata: Metadata
    omissions: list[str]
    orientation: int
    damage: str | None = None


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
    reader = next((reader for begins, reader in _READERS if begins(data)), None)
    if reader is None:
        raise ImageError(explain_unread(name, data, _FORMATS))
    try:
        with no_pixel_limit():
            content = reader(data, name, damaged, with_metadata)
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


def count_pixels(file: Path) -> int:
    """Return how many pixels an image file says that it has, without decoding it; 0 where it does not tell."""
    try:
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data[:4] in TIFF_HEADERS:
                height, width, _ = read_layout(data, str(file)).shape
                return height * width
        with no_pixel_limit(), Image.open(file, formats=_FORMATS) as image:
            return image.width * image.height
    # As in decoding; what is wrong is told when the image is read.
    except Exception:
        return 0


def _read_png(data: bytes, name: str, damaged: str, with_metadata: bool) -> _Content:
    chunks = read_chunks(data)
    if chunks.height * (chunks.width * chunks.bits // 8) > _DEFLATE_RATIO * len(data):
        raise ImageError(
            f"{name} claims {chunks.width}x{chunks.height} pixels, more than its {len(data)} bytes can hold. "
            "It is damaged: copy it again, or remove it."
        )
    check_size(chunks.width, chunks.height, name)
    if chunks.bits == 16 and chunks.width * chunks.height > _MOST_16:
        raise content_error(name, f"a 16-bit PNG of more than {_MOST_16} pixels")
    with Image.open(io.BytesIO(chunks.pixels), formats=["PNG"]) as image:
        image.load()  # which OpenCV's own decoding does not replace: it takes much damage for sound
        transparent = image.info.get("transparency")
        if chunks.colour == _GRAY and transparent is not None and chunks.bits in (2, 4):
            image.info["transparency"] = transparent * 255 // (2**chunks.bits - 1)  # as Pillow makes the levels
        samples = _copy_out(image) if chunks.bits < 16 else None
    if samples is None:  # Pillow's picture is closed: its memory is free for OpenCV's
        samples = _samples_16(chunks, transparent)
    return _Content(samples, chunks.metadata, chunks.omissions, find_orientation(chunks.metadata))


def _read_jpeg(data: bytes, name: str, damaged: str, with_metadata: bool) -> _Content:
    bits = jpeg_bits(data)
    if bits not in (0, 8):
        raise content_error(name, f"JPEG samples of {bits} bits")
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        check_size(image.width, image.height, name)
        if image.mode == "CMYK" and "adobe" not in image.info:
            raise content_error(name, "CMYK colour that may be inverted or not (it lacks the marker of Adobe)")
        metadata, omissions = read_jpeg_metadata(image, data)
        if with_metadata:  # to look for the end takes some milliseconds
            omissions += list_further_pictures(image, data)
        samples, damage = decode_jpeg(data, _JPEG_COLOURS.get(image.mode, "RGB"), damaged)
        if damage is not None and damaged != "accept":
            raise damage_error(name, damage)
        if samples is None or image.mode == "CMYK":  # which Pillow converts to RGB
            image.load()
            samples = _copy_out(image)
    return _Content(samples, metadata, omissions, find_orientation(metadata), damage)


def _read_tiff(data: bytes, name: str, damaged: str, with_metadata: bool) -> _Content:
    samples, layout, damage = read_tiff(data, name, damaged)
    metadata, omissions = read_tiff_metadata(data, layout)
    return _Content(samples, metadata, omissions, layout.orientation, damage)


def _read_webp(data: bytes, name: str, damaged: str, with_metadata: bool) -> _Content:
    with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
        check_size(image.width, image.height, name)
        image.load()
        metadata, omissions = read_webp_metadata(image, data)
        return _Content(_copy_out(image), metadata, omissions, find_orientation(metadata))


def _read_bmp(data: bytes, name: str, damaged: str, with_metadata: bool) -> _Content:
    problem, omissions = read_bmp_header(data)
    if problem is not None:
        raise content_error(name, problem)
    with Image.open(io.BytesIO(data), formats=["BMP"]) as image:
        check_size(image.width, image.height, name)
        image.load()
        return _Content(_copy_out(image), Metadata(), omissions, 1)


_READERS: list[tuple[Callable[[bytes], bool], Callable[[bytes, str, str, bool], _Content]]] = [
    (lambda data: data.startswith(PNG_SIGNATURE), _read_png),
    (lambda data: data.startswith(b"\xff\xd8\xff"), _read_jpeg),
    (lambda data: data.startswith(TIFF_HEADERS), _read_tiff),
    (lambda data: data.startswith(b"RIFF") and data[8:12] == b"WEBP", _read_webp),
    (lambda data: data.startswith(b"BM"), _read_bmp),
]


def _copy_out(image: Image.Image) -> np.ndarray:
    """(H, W, C) uint8 of a loaded image, by bands: Pillow's own way holds the picture four times."""
    mode = _mode_8(image)
    samples = np.empty((image.height, image.width, len(mode)), np.uint8)
    for band in _bands(samples):
        part = image.crop((0, band.start, image.width, band.stop))
        samples[band] = np.asarray(part.convert(mode)).reshape(-1, *samples.shape[1:])
    return samples


def _bands(samples: np.ndarray) -> Iterator[slice]:
    height, width = samples.shape[:2]
    step = max(1, _BAND // width)
    return (slice(top, min(top + step, height)) for top in range(0, height, step))


def _mode_8(image: Image.Image) -> str:
    """The mode (L, LA, RGB or RGBA) that keeps all that this 8-bit image holds."""
    gray = image.mode in ("1", "L", "LA")
    alpha = image.mode in ("LA", "RGBA") or "transparency" in image.info
    return ("L" if gray else "RGB") + ("A" if alpha else "")


def _samples_16(chunks: PngChunks, transparent: int | None) -> np.ndarray:
    """(H, W, C) uint16 of a PNG that Pillow has accepted; transparent: the gray level that is."""
    with quiet_opencv():
        decoded = cv2.imdecode(np.frombuffer(chunks.pixels, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16:
        raise DamageError("its data cannot be decoded")
    if decoded.ndim == 2:
        gray = decoded[..., None]
        if transparent is None:
            return gray
        return np.concatenate([gray, np.where(gray == transparent, 0, 65535).astype(np.uint16)], 2)
    for band in _bands(decoded):
        decoded[band, :, :3] = decoded[band, :, 2::-1].copy()  # from BGR
    return decoded[..., [0, 3]] if chunks.colour == _GRAY_ALPHA else decoded


def _orient(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Undo the camera's turn (TIFF 6.0, tag 274): (H, W, C) -> (H, W, C) or (W, H, C)."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples
