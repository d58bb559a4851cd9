"""Image formats: names, suffixes, signatures, limits, errors, and the images of a folder."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from realsr.core.errors import ImageError
from realsr.core.file_kinds import IMAGE_SIGNATURES, RAW
from realsr.core.file_names import list_files
from realsr.core.machine import machine_memory

# .jps: stereo, two images side by side; .mpo: several images, of which only the first is read and
# written.
_READ = {
    "PNG": ".png",
    "JPEG": ".jpg .jpeg .jpe .jfif .jif .jps .mpo",
    "TIFF": ".tif .tiff",
    "WEBP": ".webp",
    "BMP": ".bmp .dib",
}
_UNREAD = {
    RAW: ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .iiq .kdc .mef .mos .mrw .nef .nrw .orf "
    ".pef .raf .raw .rw2 .rwl .sr2 .srf .srw .x3f",
    "AVIF": ".avif .avifs",
    "DDS": ".dds",
    "DICOM": ".dcm",
    "FITS": ".fit .fits",
    "GIF": ".gif",
    "GIMP": ".xcf",
    "HEIC": ".heic .heif .hif",
    "icon": ".ico .icns",
    "JPEG 2000": ".j2c .j2k .jp2 .jpc .jpf .jpx",
    "JPEG XL": ".jxl",
    "JPEG XR": ".jxr .wdp",
    "Netpbm": ".pam .pbm .pfm .pgm .pnm .ppm",
    "OpenEXR": ".exr",
    "PCX": ".pcx",
    "PDF": ".pdf",
    "Photoshop": ".psb .psd",
    "PostScript": ".ai .eps",
    "QOI": ".qoi",
    "Radiance HDR": ".hdr",
    "SVG": ".svg .svgz",
    "TGA": ".tga",
}
_FORMATS, UNREAD_SUFFIXES = (
    {suffix: name for name, suffixes in table.items() for suffix in suffixes.split()}
    for table in (_READ, _UNREAD)
)
IMAGE_SUFFIXES = frozenset(_FORMATS)
READ_FORMATS = tuple(_READ)
_BRANDS = {  # of ISO base media files; AVIF also has mif1, beside its own brand
    b"avif": "AVIF",
    b"avis": "AVIF",
    b"crx ": RAW,
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"mif1"), "HEIC"),
}

_WITHOUT_ALPHA = ("JPEG", "BMP")
# JPEG allows 65535, but libjpeg refuses more than 65500.
_LONGEST_SIDE = {
    "PNG": 2**31 - 1,
    "JPEG": 65500,
    "TIFF": 2**32 - 1,
    "WEBP": 16383,
    "BMP": 2**31 - 1,
}


@dataclass(frozen=True)
class Layout:
    """The size and sample format of an image.

    channels: 1 gray, 2 gray + alpha, 3 RGB, 4 RGBA; bits: 8 or 16 per sample.
    """

    height: int
    width: int
    channels: int
    bits: int

    @classmethod
    def of(cls, samples: np.ndarray) -> "Layout":
        """Return the layout of (H, W, C) uint8 or uint16 samples."""
        height, width, channels = samples.shape
        return cls(height, width, channels, 8 * samples.itemsize)

    @property
    def pixel_bytes(self) -> int:
        """The number of bytes in one pixel."""
        return self.channels * self.bits // 8

    @property
    def row_bytes(self) -> int:
        """The number of bytes in one row of samples."""
        return self.width * self.pixel_bytes


def holds_alpha(suffix: str) -> bool:
    """Return whether the format of a suffix (such as ".png", in any case) supports alpha."""
    return _FORMATS.get(suffix.lower()) not in _WITHOUT_ALPHA


def check_format(suffix: str, layout: Layout) -> str:
    """Return the format of a suffix (such as ".png", in any case) if it can hold the image.

    Raises ImageError for an unknown suffix and for an image that the format cannot hold: alpha in
    JPEG and BMP, 16 bit outside PNG and TIFF, sides over 65500 (JPEG), 16383 (WebP) or 2^31 - 1
    (PNG), 4 GiB in BMP.
    """
    kind = _FORMATS.get(suffix.lower())
    if kind is None:
        suffixes = " ".join(sorted(IMAGE_SUFFIXES))
        raise ImageError(
            f"{suffix!r} is not the suffix of a supported output format: use one of {suffixes}."
        )
    size, longest = f"{layout.width}x{layout.height} pixels", _LONGEST_SIDE[kind]
    if min(layout.height, layout.width) == 0:
        raise ImageError(f"an image of {size} is empty: there is nothing to write.")
    bmp_size = 1078 + (layout.width * layout.channels + 3) // 4 * 4 * layout.height  # padded rows
    has_alpha, is_deep = layout.channels in (2, 4), layout.bits == 16
    is_too_long = max(layout.height, layout.width) > longest
    advice = "write .tif" if kind == "PNG" else "write .png or .tif"
    rules = (
        (
            has_alpha and kind in _WITHOUT_ALPHA,
            "the image's alpha channel: write .png, .tif or .webp",
        ),
        (
            is_deep and kind not in ("PNG", "TIFF"),
            f"16 bits per sample: {advice}, or convert to 8 bit",
        ),
        (is_too_long, f"{size} (at most {longest} per side): {advice}"),
        (kind == "BMP" and bmp_size >= 2**32, f"{size} (at most 4 GiB): {advice}"),
    )
    for applies, content in rules:
        if applies:
            raise ImageError(f"{kind} cannot hold {content}.")
    return kind


def identify_format(data: bytes) -> str | None:
    """Return the image format of a file from its first bytes; None if it is unknown."""
    if data[4:8] == b"ftyp":  # ISO base media: its brand, a version, compatible brands
        size = int.from_bytes(data[:4], "big")
        brands = [data[8:12], *(data[i : i + 4] for i in range(16, min(size, 128), 4))]
        return next((kind for brand, kind in _BRANDS.items() if brand in brands), None)
    if b"<svg" in data[:1024]:
        return "SVG"
    return next(
        (kind for place, magic, kind in IMAGE_SIGNATURES if data.startswith(magic, place)), None
    )


def explain_unread(path: Path | str, kind: str | None) -> str:
    """Return the message for a file that is not a supported image.

    kind: its format according to its content; None if unknown.
    """
    if (kind := kind or UNREAD_SUFFIXES.get(Path(path).suffix.lower())) is not None:
        return f"{path} has the format {kind}, which is not supported. Convert it to PNG or TIFF."
    return (
        f"{path} is not a supported image: expected {', '.join(READ_FORMATS)}. "
        "It may be damaged or of another format; convert it, copy it again, or remove it."
    )


class DamageError(ValueError):
    """The contents of an image file are damaged; callers put its name before the message."""


def damage_error(name: str, damage: str) -> ImageError:
    """Return the error for a damaged file that damaged=accept decodes in part."""
    return ImageError(
        f"{name}: damaged ({damage}). Copy it again, remove it, or set damaged=accept to use the "
        "part that can be decoded."
    )


def content_error(name: str, content: str) -> ImageError:
    """Return the error for an intact file with content that is not supported."""
    return ImageError(
        f"{name} holds {content}, which realsr does not read. Save it as 8-bit or 16-bit gray or "
        "RGB in PNG or TIFF."
    )


def check_size(width: int, height: int, name: str) -> None:
    """Raise ImageError if an image of the size in a header would exceed the machine's memory."""
    size, available = 4 * width * height, machine_memory()
    if available is not None and size > available:
        raise ImageError(
            f"{name} declares {width}x{height} pixels, which need {size / 2**30:.0f} GiB, but the "
            f"machine has {available / 2**30:.0f} GiB of memory. Crop or shrink it with a program "
            "for images of this size."
        )


def list_images(folder: Path) -> list[Path]:
    """Return the images directly in a folder, by suffix and sorted by name, as `list_files` does.

    Raises ImageError if the folder is missing, is a file, cannot be listed, or holds no images.
    """
    folder = Path(folder)
    if folder.is_file():
        raise ImageError(f"{folder} is a file; expected a folder of images. Set its folder.")
    return _list(folder, recursive=False)


def find_images(path: Path) -> list[Path]:
    """Return the images in a folder and its subfolders, sorted by path, or the path of one file.

    A file may have any suffix except those of raw files. Folders are listed as `list_files` does.

    Raises ImageError for a missing path, a camera's raw file, and a folder that cannot be listed or
    holds no images.
    """
    path = Path(path)
    if not path.is_file():
        return _list(path, recursive=True)
    if UNREAD_SUFFIXES.get(path.suffix.lower()) == RAW:  # most could be read as a TIFF preview
        raise ImageError(explain_unread(path, RAW))
    return [path]


def _list(folder: Path, recursive: bool) -> list[Path]:
    if not folder.exists():
        raise ImageError(f"{folder} does not exist. Check the path.")
    try:
        images = list_files(folder, IMAGE_SUFFIXES, recursive, UNREAD_SUFFIXES)
        if images:
            return images
        subfolders = {
            path.parent.name for path in folder.glob("*/*") if path.suffix.lower() in IMAGE_SUFFIXES
        }
    except OSError as error:
        place, reason = error.filename or folder, error.strerror or error
        raise ImageError(
            f"the folder {place} cannot be listed ({reason}). Check its permissions."
        ) from error
    message = f"the folder {folder} has no images; expected {' '.join(sorted(IMAGE_SUFFIXES))}."
    if subfolders and not recursive:
        ending = " and others" if len(subfolders) > 3 else ""
        names = ", ".join(sorted(subfolders)[:3])
        message += f" Its subfolders {names}{ending} contain images: set one of them."
    raise ImageError(message)
