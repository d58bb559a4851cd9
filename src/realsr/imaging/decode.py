"""File contents -> samples: strict decoding of PNG, JPEG, TIFF, WebP and BMP.

Pillow decodes 8 bit and judges every file. It cannot hold 16-bit colour, so the 16-bit samples of a
file that Pillow has accepted are decoded by OpenCV.
"""

import contextlib
import io
import threading
from collections.abc import Iterator

import cv2
import numpy as np
from PIL import ExifTags, Image

from realsr.imaging.picture import ImageError

_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP")
_TIFF_GRAY_WHITE_IS_ZERO, _TIFF_GRAY, _TIFF_RGB = 0, 1, 2


def decode_samples(data: bytes, name: str) -> np.ndarray:
    """Decode an image file's contents, EXIF orientation applied.

    data: the contents of a PNG, JPEG, TIFF, WebP or BMP file.
    name: what error messages call the file.

    Returns (H, W, C) uint8 or uint16, C = 1 gray, 2 gray + alpha, 3 RGB, 4 RGBA. Of an animation or a
    file of several pages, the first image. Raises ImageError for anything damaged, truncated or of
    another kind.
    """
    if not data:
        raise ImageError(f"{name} is empty (0 bytes). Copy or download it again, or remove it.")
    try:
        with _no_pixel_limit():
            return _decode(data, name)
    except ImageError:
        raise
    except Image.UnidentifiedImageError:
        kinds = ", ".join(_FORMATS)
        raise ImageError(
            f"{name} is not an image that can be read: expected {kinds}. "
            "It may be damaged or of another kind; convert it, copy it again, or remove it."
        ) from None
    # Damaged files raise whatever their decoder stumbles over: OSError, SyntaxError, zlib.error, ...
    except Exception as error:
        raise ImageError(
            f"{name} is damaged or incomplete ({error}). Copy or download it again, or remove it."
        ) from error


def _decode(data: bytes, name: str) -> np.ndarray:
    image = Image.open(io.BytesIO(data), formats=_FORMATS)
    if image.format == "PNG":
        # Loading stops at the last pixel; this finds wrong checksums and a missing end too.
        image.verify()
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    sixteen = _has_16_bits(image, data)
    tags = _tiff_tags(image)
    image.load()
    samples = _samples_16(image, tags, data, name) if sixteen else np.asarray(image.convert(_mode_8(image, name)))
    samples = samples.reshape(*samples.shape[:2], -1)
    return np.ascontiguousarray(_orient(samples, _orientation(image)))


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


def _samples_16(image: Image.Image, tags: dict[int, tuple[int, ...]], data: bytes, name: str) -> np.ndarray:
    """(H, W, C) uint16 of a file that Pillow has loaded."""
    photometric = tags.get(ExifTags.Base.PhotometricInterpretation, (_TIFF_RGB,))[0]
    if photometric not in (_TIFF_GRAY_WHITE_IS_ZERO, _TIFF_GRAY, _TIFF_RGB):
        raise ImageError(_unsupported(name, f"16-bit {image.mode} colour"))
    if any(kind != 1 for kind in tags.get(ExifTags.Base.SampleFormat, ())):
        raise ImageError(_unsupported(name, "signed or floating-point samples"))
    if tags.get(ExifTags.Base.PlanarConfiguration, (1,))[0] != 1 and photometric == _TIFF_RGB:
        raise ImageError(_unsupported(name, "16-bit colour in separate planes"))

    with _quiet_opencv():
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16:
        raise ImageError(_unsupported(name, "a 16-bit layout of an unknown kind"))

    if decoded.ndim == 2:
        gray = decoded[..., None]
        if photometric == _TIFF_GRAY_WHITE_IS_ZERO:
            gray = 65535 - gray
        transparent = image.info.get("transparency")
        if transparent is None:
            return gray
        return np.concatenate([gray, np.where(gray == transparent, 0, 65535).astype(np.uint16)], 2)
    if decoded.shape[2] == 3:
        return decoded[..., ::-1]
    return _colour_and_alpha_16(decoded[..., [2, 1, 0, 3]], tags, data, image.format == "PNG")


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


_open_count = 0
_saved_limit: int | None = None
_count_lock = threading.Lock()


@contextlib.contextmanager
def _no_pixel_limit() -> Iterator[None]:
    """Lift Pillow's guard against huge images: a 200-megapixel photo is no attack here.

    The guard is one global of Pillow's; counting the users keeps it right with several threads.
    """
    global _open_count, _saved_limit
    with _count_lock:
        if _open_count == 0:
            _saved_limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _open_count += 1
    try:
        yield
    finally:
        with _count_lock:
            _open_count -= 1
            if _open_count == 0:
                Image.MAX_IMAGE_PIXELS = _saved_limit


_quiet_lock = threading.Lock()


@contextlib.contextmanager
def _quiet_opencv() -> Iterator[None]:
    """Keep OpenCV from printing about files that raise an ImageError anyway."""
    with _quiet_lock:
        level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            yield
        finally:
            cv2.utils.logging.setLogLevel(level)
