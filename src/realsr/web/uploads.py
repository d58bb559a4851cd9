"""Checks of the photos that the page sends: their names, file sizes and numbers of pixels."""

from pathlib import Path

from realsr.core.errors import ImageError
from realsr.core.file_names import printable
from realsr.core.files import check_name
from realsr.imaging import IMAGE_SUFFIXES, count_pixels
from realsr.imaging.formats import READ_FORMATS, explain_unread, identify_format

SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "TIFF": ".tif", "WEBP": ".webp", "BMP": ".bmp"}


def place_photo(folder: Path, name: str) -> Path:
    """Return where a photo of a name is stored. Raises ImageError for a name that is no file's."""
    if not name or name in (".", "..") or any(character in name for character in "/\\\0"):
        raise ImageError(f"{printable(name)!r} is not the name of a file: rename the photo")
    if Path(name).suffix.lower() not in IMAGE_SUFFIXES:
        raise ImageError(explain_unread(name, None))
    try:
        check_name(name)
    except ValueError as error:
        raise ImageError(str(error)) from error
    if (folder / name).exists():
        raise ImageError(f"{name}: two photos have this name: rename one of them")
    return folder / name


def check_bytes(name: str, size: int, max_megabytes: float) -> None:
    """Raise ImageError for a file of more than `max_megabytes` (10^6 bytes)."""
    if size > max_megabytes * 1e6:
        raise ImageError(
            f"{name}: the file has more than {max_megabytes:g} MB: make it smaller, or start "
            "realsr app with a larger max_megabytes"
        )


def check_photo(path: Path, max_megapixels: float) -> None:
    """Check a photo's header before the photo is decoded.

    Raises ImageError if the header cannot be read or states more than `max_megapixels`.
    """
    pixels = count_pixels(path)
    if pixels == 0:
        identify_photo(path)
        raise ImageError(
            f"{path.name} is damaged or incomplete: its header cannot be decoded. Copy or download "
            "it again."
        )
    if pixels > max_megapixels * 1e6:
        raise ImageError(
            f"{path.name} has {pixels / 1e6:.2f} megapixels, more than {max_megapixels:g}: shrink "
            "or crop it, or start realsr app with a larger max_megapixels"
        )


def identify_photo(path: Path) -> str:
    """Return the suffix of a photo's format by its content. Raises ImageError for other files."""
    with path.open("rb") as file:
        kind = identify_format(file.read(128))
    if kind not in READ_FORMATS:
        raise ImageError(explain_unread(path.name, kind))
    return SUFFIXES[kind]
