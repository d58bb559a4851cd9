"""File contents -> samples: strict decoding of PNG, JPEG, TIFF, WebP and BMP.

libjpeg-turbo decodes gray and RGB JPEG, Pillow all else of 8 bit, and Pillow judges every file. It cannot hold 16-bit
colour, so the 16-bit samples of a file that Pillow has accepted are decoded by OpenCV. What these do not tell about
damage is found by `jpeg_decoding` and `checksums`. At most about three times the samples are held at once.
"""

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image

from realsr.imaging.checksums import PNG_SIGNATURE, check_png, check_tiff
from realsr.imaging.guards import check_size, no_pixel_limit, quiet_opencv
from realsr.imaging.jpeg_decoding import decode_jpeg
from realsr.imaging.photo import Metadata, Photo, find_metadata
from realsr.imaging.picture import ImageError
from realsr.imaging.unread import explain_unread

logger = logging.getLogger("realsr")

_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP")
_JPEG_COLOURS = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}  # by Pillow's modes
_TIFF_GRAY_WHITE_IS_ZERO, _TIFF_GRAY, _TIFF_RGB = 0, 1, 2
_BAND = 2**20  # pixels that are copied out of Pillow's memory or swapped at once


def decode_photo(data: bytes, name: str, damaged: str = "refuse", with_metadata: bool = True) -> Photo:
    """Decode an image file's contents, EXIF orientation applied.

    data: the contents of a PNG, JPEG, TIFF, WebP or BMP file.
    name: what messages call the file.
    damaged: `accept` takes what can be decoded of damaged contents, and the photo's `damage` tells the reason.

    Of an animation or a file of several pages, the first image. Raises ImageError for anything damaged, truncated,
    of another kind, or too large for the machine's memory.
    """
    if not data:
        raise ImageError(f"{name} is empty (0 bytes). Copy or download it again, or remove it.")
    try:
        with no_pixel_limit():
            return _decode_known(data, name, damaged, with_metadata)
    except ImageError:
        raise
    except Image.UnidentifiedImageError:
        raise ImageError(explain_unread(name, data, _FORMATS)) from None
    except MemoryError as error:
        raise ImageError(f"{name} needs more memory than there is. Free some, or shrink the image.") from error
    # Damaged files raise whatever their decoder stumbles over: OSError, SyntaxError, zlib.error, ...
    except Exception as error:
        raise ImageError(
            f"{name} is damaged or incomplete ({error}). Copy or download it again, or remove it."
        ) from error


def count_pixels(file: Path) -> int:
    """Return how many pixels an image file says that it has, without decoding it; 0 where it does not tell."""
    try:
        with no_pixel_limit(), Image.open(file, formats=_FORMATS) as image:
            return image.width * image.height
    # As in decoding; what is wrong is told when the image is read.
    except Exception:
        return 0


def _decode_known(data: bytes, name: str, damaged: str, with_metadata: bool) -> Photo:
    samples, damage = None, None
    if data.startswith(PNG_SIGNATURE):
        data, left_out = check_png(data)
        if left_out and with_metadata:
            logger.warning("%s: damaged %s (wrong checksum) left out; the pixels are whole", name, ", ".join(left_out))
    with contextlib.closing(Image.open(io.BytesIO(data), formats=_FORMATS)) as image:
        check_size(image, data, name)
        sixteen = _has_16_bits(image, data)
        tags = _tiff_tags(image)
        if image.format in ("JPEG", "MPO"):
            samples, damage = decode_jpeg(data, _JPEG_COLOURS.get(image.mode, "RGB"), damaged)
        elif image.format == "TIFF":
            damage = check_tiff(image, data)
        if damage is not None and damaged != "accept":
            raise ImageError(
                f"{name}: damaged ({damage}). Copy it again, remove it, or set damaged=accept to use what can be "
                "decoded."
            )
        if samples is None or image.mode == "CMYK":  # which Pillow converts to RGB
            samples = None
            image.load()
        transparent = image.info.get("transparency")
        orientation = _orientation(image)
        metadata = find_metadata(image, data, name) if with_metadata else Metadata()
        if samples is None and not sixteen:
            samples = _copy_out(image, _mode_8(image, name))
    if samples is None:  # Pillow's picture is closed: its memory is free for OpenCV's
        samples = _samples_16(image, tags, data, name, transparent)
    return Photo(np.ascontiguousarray(_orient(samples, orientation)), metadata, damage)


def _copy_out(image: Image.Image, mode: str) -> np.ndarray:
    """(H, W, C) uint8 of an image converted to a mode, by bands: Pillow's own way holds the picture four times."""
    samples = np.empty((image.height, image.width, len(mode)), np.uint8)
    for band in _bands(samples):
        part = image.crop((0, band.start, image.width, band.stop))
        samples[band] = np.asarray(part.convert(mode)).reshape(-1, *samples.shape[1:])
    return samples


def _bands(samples: np.ndarray) -> Iterator[slice]:
    height, width = samples.shape[:2]
    step = max(1, _BAND // width)
    return (slice(top, min(top + step, height)) for top in range(0, height, step))


def _has_16_bits(image: Image.Image, data: bytes) -> bool:
    """Whether the file stores 16 bits per sample; Pillow's mode does not tell for colour."""
    if image.format == "PNG":
        return data[24] == 16  # bit depth in IHDR, which always comes first
    bits = _tiff_tags(image).get(ExifTags.Base.BitsPerSample, ())
    return bool(bits) and all(b == 16 for b in bits)


def _tiff_tags(image: Image.Image) -> dict[int, tuple[int, ...]]:
    wanted = (
        ExifTags.Base.BitsPerSample,
        ExifTags.Base.PhotometricInterpretation,
        ExifTags.Base.PlanarConfiguration,
        ExifTags.Base.ExtraSamples,
        ExifTags.Base.SampleFormat,
    )
    found = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    values = {int(tag): found.get(tag) for tag in wanted}
    return {tag: v if isinstance(v, tuple) else (v,) for tag, v in values.items() if v is not None}


def _mode_8(image: Image.Image, name: str) -> str:
    """The mode (L, LA, RGB or RGBA) that keeps all that this 8-bit image holds."""
    mode, transparent = image.mode, "transparency" in image.info
    if mode in ("1", "L"):
        return "LA" if transparent else "L"
    if mode in ("LA", "La"):
        return "LA"
    if mode in ("P", "RGB"):
        return "RGBA" if transparent else "RGB"
    if mode in ("PA", "RGBA", "RGBa"):
        return "RGBA"
    if mode in ("CMYK", "YCbCr", "LAB", "RGBX"):
        return "RGB"
    raise ImageError(_unsupported(name, f"Pillow's pixel type {mode}"))


def _unsupported(name: str, what: str) -> str:
    return f"{name} holds {what}, which is not read. Save it as 8-bit or 16-bit gray or RGB."


def _samples_16(
    image: Image.Image, tags: dict[int, tuple[int, ...]], data: bytes, name: str, transparent: int | None
) -> np.ndarray:
    """(H, W, C) uint16 of a file that Pillow has accepted; transparent: the gray level that is."""
    photometric = tags.get(ExifTags.Base.PhotometricInterpretation, (_TIFF_RGB,))[0]
    if photometric not in (_TIFF_GRAY_WHITE_IS_ZERO, _TIFF_GRAY, _TIFF_RGB):
        raise ImageError(_unsupported(name, f"16-bit {image.mode} colour"))
    if any(kind != 1 for kind in tags.get(ExifTags.Base.SampleFormat, ())):
        raise ImageError(_unsupported(name, "signed or floating-point samples"))
    if tags.get(ExifTags.Base.PlanarConfiguration, (1,))[0] != 1 and photometric == _TIFF_RGB:
        raise ImageError(_unsupported(name, "16-bit colour in separate planes"))

    with quiet_opencv():
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16:
        raise ImageError(_unsupported(name, "a 16-bit layout of an unknown kind"))

    if decoded.ndim == 2:
        gray = decoded[..., None]
        if photometric == _TIFF_GRAY_WHITE_IS_ZERO:
            gray = 65535 - gray
        if transparent is None:
            return gray
        return np.concatenate([gray, np.where(gray == transparent, 0, 65535).astype(np.uint16)], 2)
    for band in _bands(decoded):
        decoded[band, :, :3] = decoded[band, :, 2::-1].copy()  # from BGR
    if decoded.shape[2] == 3:
        return decoded
    return _colour_and_alpha_16(decoded, tags, data, image.format == "PNG")


def _colour_and_alpha_16(rgba: np.ndarray, tags: dict[int, tuple[int, ...]], data: bytes, png: bool) -> np.ndarray:
    """What the four channels really are: (H, W, 2), (H, W, 3) or (H, W, 4) uint16."""
    if png:
        gray_with_alpha = data[25] == 4  # colour type in IHDR
        return rgba[..., [0, 3]] if gray_with_alpha else rgba
    extra = tags.get(ExifTags.Base.ExtraSamples, (2,))[0]
    if extra == 0:  # not said to be alpha
        return rgba[..., :3]
    if extra == 1:  # premultiplied
        alpha = rgba[..., 3:].astype(np.float64)
        colour = rgba[..., :3] * (65535 / np.maximum(alpha, 1))
        return np.concatenate([np.rint(colour.clip(0, 65535)).astype(np.uint16), rgba[..., 3:]], 2)
    return rgba


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1..8. Both libraries turn TIFFs themselves, and Pillow then drops the tag."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    # EXIF that cannot be parsed says nothing about the pixels.
    except Exception:
        return 1
    return value if value in range(1, 9) else 1


def _orient(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Undo the camera's turn (TIFF 6.0, tag 274): (H, W, C) -> (H, W, C) or (W, H, C)."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples
