"""Pillow: opening of images, decoding and encoding of BMP and WebP with the whole image in memory."""

import io
import struct
import threading
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from realsr.imaging.formats import Layout, check_size, content_error
from realsr.imaging.photo import Metadata, Photo, count_words, find_orientation
from realsr.imaging.samples import row_bands

_MASKS = 3  # BMP's compression code for uncompressed pixels with bit masks of the colours
_PROFILES = (0x4D424544, 0x4C494E4B)  # "MBED" and "LINK": an ICC profile, embedded or linked
_LIMIT_LOCK = threading.Lock()


def open_image(file: BinaryIO) -> Image.Image:
    """Open an image file by Pillow without its pixel limit; a lock guards this global setting."""
    with _LIMIT_LOCK:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file, formats=("PNG", "JPEG", "WEBP", "BMP"))
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def open_contents(data: bytes, name: str) -> Image.Image:
    """Open the contents of a file as `open_image` does. Raises ImageError as `check_size`."""
    image = open_image(io.BytesIO(data))
    check_size(image.width, image.height, name)
    return image


def copy_samples(image: Image.Image) -> np.ndarray:
    """Return the samples of an 8-bit image, (H, W, C) uint8.

    They are copied in bands, since Pillow's own conversion holds the image four times.
    """
    image.load()
    mode = ("L" if image.mode in ("1", "L") else "RGB") + ("A" if image.mode == "RGBA" else "")
    samples = np.empty((image.height, image.width, len(mode)), np.uint8)
    for band in row_bands(samples):
        part = image.crop((0, band.start, image.width, band.stop))
        samples[band] = np.asarray(part.convert(mode)).reshape(-1, *samples.shape[1:])
    return samples


def decode_webp(data: bytes, name: str, damaged: str, with_metadata: bool) -> tuple[Photo, int]:
    """Decode the contents of a WebP file."""
    with open_contents(data, name) as image:
        frames = getattr(image, "n_frames", 1) - 1
        omissions = (count_words(frames, "further frame"),) if frames else ()
        samples, info = copy_samples(image), image.info
    metadata = Metadata(info.get("icc_profile"), info.get("exif"), info.get("xmp"))
    return Photo(samples, metadata, omissions=omissions), find_orientation(metadata)


def decode_bmp(data: bytes, name: str, damaged: str, with_metadata: bool) -> tuple[Photo, int]:
    """Decode the contents of a BMP file."""
    error = content_error(
        name, "a BMP of an unusual compression, colour order (bit masks) or bit depth"
    )
    if not _is_regular(data):
        raise error
    try:
        image = open_contents(data, name)
    except OSError as reason:
        raise error if str(reason).startswith("Unsupported BMP") else reason from None
    with image:
        return Photo(copy_samples(image), Metadata(), omissions=_list_omissions(data)), 1


def _is_regular(data: bytes) -> bool:
    """Return whether Pillow either decodes a BMP correctly or raises an error."""
    size, bits, compression = struct.unpack_from("<I10xHI", data.ljust(34, b"\0"), 14)
    if size < 40:  # OS/2: palettes and 24 bits only
        return True
    has_alpha = size >= 56 and compression == _MASKS and any(data[66:70])
    return (compression, bits) not in ((1, 4), (2, 8)) and not (bits == 16 and has_alpha)


def _list_omissions(data: bytes) -> tuple[str, ...]:
    """Describe the content of a BMP that Pillow does not decode."""
    start, size, width, height, bits, compression = struct.unpack_from(
        "<IIii2xHI", data.ljust(34, b"\0"), 10
    )
    omissions = list[str]()
    if size >= 40 and bits == 32 and compression != _MASKS:
        fourth = np.frombuffer(data, np.uint8, 4 * width * abs(height), start)[3::4]
        if fourth.min() != fourth.max():
            omissions.append("extra channel, which may be alpha")
    if size >= 124 and struct.unpack_from("<I", data, 70)[0] in _PROFILES:
        omissions.append("colour profile")
    return tuple(omissions)


class PillowEncoder:
    """Collects the rows of an image and writes the file, of the format `kind`, at the end."""

    rows = 64

    def __init__(self, kind: str, file: BinaryIO, layout: Layout, metadata: Metadata):
        self._kind, self._file, self._metadata, self._top = kind, file, metadata, 0
        mode = ("L", "LA", "RGB", "RGBA")[layout.channels - 1]
        if kind == "WEBP":  # here, since Pillow would convert a whole gray image at the end
            mode = {"L": "RGB", "LA": "RGBA"}.get(mode, mode)
        self._image = Image.new(mode, (layout.width, layout.height))

    def write(self, samples: np.ndarray) -> None:
        """Append (h, W, C) uint8 samples."""
        samples = samples[..., 0] if samples.shape[2] == 1 else samples
        band = Image.fromarray(np.ascontiguousarray(samples))
        self._image.paste(band.convert(self._image.mode), (0, self._top))
        self._top += len(samples)

    def finish(self) -> None:
        """Compress and write the image.

        WebP is lossless and keeps the colours of transparent pixels; gray becomes RGB.
        """
        options: dict[str, Any] = {
            "icc_profile": self._metadata.icc or b"",
            "exif": self._metadata.exif or b"",
            "xmp": self._metadata.xmp or b"",
            # For lossless WebP, quality means effort: the default of 80 takes four times as long
            # for files 0 to 3 % smaller.
            "quality": 20,
        }
        with io.BytesIO() as memory:
            self._image.save(memory, self._kind, lossless=True, exact=True, **options)
            with memory.getbuffer() as data:
                if self._kind == "WEBP" and self._image.mode == "RGBA":
                    _mark_alpha(data)
                self._file.write(data)


def _mark_alpha(data: memoryview) -> None:
    """Set the alpha flags of a lossless WebP, which libwebp omits if all pixels are opaque."""
    position = 12  # after RIFF, size, WEBP; then chunks of name, size and contents of even length
    while position + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, position)
        if kind == b"VP8X":
            data[position + 8] |= 0x10
        elif kind == b"VP8L":
            # Signature (8 bits), width - 1 and height - 1 (14 bits each), alpha flag (1 bit).
            data[position + 12] |= 0x10
            return
        position += 8 + length + length % 2
