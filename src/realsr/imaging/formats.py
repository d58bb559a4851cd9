"""The image formats: names, suffixes, signatures and limits, and the images of a folder."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from realsr.core.errors import ImageError
from realsr.core.file_kinds import IMAGE_SIGNATURES, RAW
from realsr.core.file_names import list_files

_FORMAT = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".jif": "JPEG",
    ".jps": "JPEG",  # two pictures side by side
    ".mpo": "JPEG",  # several pictures, of which the first is read and written
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".dib": "BMP",
}
IMAGE_SUFFIXES = frozenset(_FORMAT)
READ_FORMATS = tuple(dict.fromkeys(_FORMAT.values()))
_UNREAD = {
    RAW: ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .raw .rw2 "
    ".rwl .sr2 .srf .srw .x3f",
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
UNREAD_SUFFIXES = {
    suffix: name for name, suffixes in _UNREAD.items() for suffix in suffixes.split()
}
_BRANDS = {  # of ISO base media files
    b"avif": "AVIF",
    b"avis": "AVIF",
    b"crx ": RAW,
    **dict.fromkeys(
        (b"heic", b"heix", b"hevc", b"mif1"), "HEIC"
    ),  # mif1: of AVIF too, beside its own
}

_WITHOUT_ALPHA = ("JPEG", "BMP")
# JPEG itself allows 65535, but the library that everyone uses refuses more than 65500.
_LONGEST_SIDE = {
    "PNG": 2**31 - 1,
    "JPEG": 65500,
    "TIFF": 2**32 - 1,
    "WEBP": 16383,
    "BMP": 2**31 - 1,
}


@dataclass(frozen=True)
class Layout:
    """The form of an image's samples: channels 1 gray, 2 gray + alpha, 3 RGB, 4 RGBA; 8 or 16 bits each."""

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
    def row_bytes(self) -> int:
        """The bytes of one row of samples."""
        return self.width * self.channels * self.bits // 8


def holds_alpha(suffix: str) -> bool:
    """Return whether the format that `suffix` (such as ".png", in any case) stands for has an alpha channel."""
    return _FORMAT.get(suffix.lower()) not in _WITHOUT_ALPHA


def check_format(suffix: str, height: int, width: int, channels: int, bits: int) -> str:
    """Return the name of the format that `suffix` (such as ".png", in any case) stands for, if it can hold the image.

    channels: 1 gray, 2 gray + alpha, 3 RGB, 4 RGBA; bits: 8 or 16 per sample.

    Raises ImageError for what the format cannot hold: alpha in JPEG and BMP, 16 bit outside PNG and TIFF, sides over
    65500 (JPEG), 16383 (WebP) or 2^31 - 1 (PNG), 4 GiB in BMP; and for an unknown suffix.
    """
    kind = _FORMAT.get(suffix.lower())
    if kind is None:
        suffixes = " ".join(sorted(IMAGE_SUFFIXES))
        raise ImageError(
            f"no image format is known for the suffix {suffix!r}: use one of {suffixes}."
        )
    if min(height, width) == 0:
        raise ImageError(f"an image of {width}x{height} pixels has nothing to write.")
    if channels in (2, 4) and kind in _WITHOUT_ALPHA:
        raise ImageError(
            f"{kind} cannot hold the image's alpha channel: write .png, .tif or .webp."
        )
    if bits == 16 and kind not in ("PNG", "TIFF"):
        raise ImageError(
            f"{kind} cannot hold 16 bits per sample: write .png or .tif, or convert to 8 bit."
        )
    if max(height, width) > _LONGEST_SIDE[kind]:
        others = ".tif" if kind == "PNG" else ".png or .tif"
        raise ImageError(
            f"{kind} cannot hold {width}x{height} pixels (at most {_LONGEST_SIDE[kind]} a side): write {others}."
        )
    if (
        kind == "BMP" and 1078 + (width * channels + 3) // 4 * 4 * height >= 2**32
    ):  # rows begin at multiples of 4
        raise ImageError(
            f"BMP cannot hold {width}x{height} pixels (at most 4 GiB): write .png or .tif."
        )
    return kind


def identify_format(data: bytes) -> str | None:
    """Return the name of the image format of a file's first bytes, None if they are of no known format."""
    if data[4:8] == b"ftyp":  # ISO base media: its brand, a version, compatible brands
        size = int.from_bytes(data[:4], "big")
        brands = [data[8:12], *(data[at : at + 4] for at in range(16, min(size, 128), 4))]
        return next((kind for brand, kind in _BRANDS.items() if brand in brands), None)
    if b"<svg" in data[:1024]:
        return "SVG"
    return next(
        (kind for place, magic, kind in IMAGE_SIGNATURES if data.startswith(magic, place)), None
    )


def explain_unread(path: Path | str, kind: str | None) -> str:
    """Return the message for a file of no format that is read; kind: its format by its content, None if unknown."""
    if (kind := kind or UNREAD_SUFFIXES.get(Path(path).suffix.lower())) is not None:
        return f"{path} is of the format {kind}, which is not read. Convert it to PNG or TIFF."
    return (
        f"{path} is not an image that can be read: expected {', '.join(READ_FORMATS)}. "
        "It may be damaged or of another kind; convert it, copy it again, or remove it."
    )


def list_images(folder: Path) -> list[Path]:
    """Return the images directly in `folder`, by suffix, sorted by name, as `list_files` does.

    Raises ImageError if the folder is missing, is a file, cannot be listed, or holds no images.
    """
    folder = Path(folder)
    if folder.is_file():
        raise ImageError(f"{folder} is a file, but a folder of images is expected. Set its folder.")
    return _list(folder, recursive=False)


def find_images(path: Path) -> list[Path]:
    """Return a file as it is, whatever its suffix; of a folder the images in it and its subfolders, sorted by path.

    Folders are listed as `list_files` does. Raises ImageError if the path does not exist, for a camera's
    raw file, and for a folder that cannot be listed or holds no images.
    """
    path = Path(path)
    if not path.is_file():
        return _list(path, recursive=True)
    if UNREAD_SUFFIXES.get(path.suffix.lower()) == RAW:  # most are TIFF files of a small preview
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
        more = " and others" if len(subfolders) > 3 else ""
        message += f" Its subfolders {', '.join(sorted(subfolders)[:3])}{more} have some: set one of these."
    raise ImageError(message)
