"""The content of a photo's file: samples, colour profile, and metadata."""

import re
from dataclasses import dataclass, replace

import numpy as np

from realsr.imaging.exif import exif_orientation, sized_exif, upright_exif
from realsr.imaging.formats import Layout

_NAMES = {"icc": "colour profile", "exif": "EXIF", "xmp": "XMP", "iptc": "IPTC"}
# The metadata that formats support; those not listed support all.
_PARTS = {"PNG": ("icc", "exif", "xmp"), "WEBP": ("icc", "exif", "xmp"), "BMP": ()}
_SEGMENT = 65533  # bytes of a JPEG segment; a colour profile may take 255 segments
_LONGEST_IN_JPEG = {
    "icc": 255 * (_SEGMENT - 14),
    "exif": _SEGMENT - 6,
    "xmp": _SEGMENT - 29,
    "iptc": _SEGMENT - 28,
}
_XMP_ORIENTATION = re.compile(rb"""(tiff:Orientation(?:=["']|>))([1-8])""")
_XMP_WIDTH = re.compile(rb"""((?:tiff:ImageWidth|exif:PixelXDimension)(?:=["']|>))\d+""")
_XMP_HEIGHT = re.compile(rb"""((?:tiff:ImageLength|exif:PixelYDimension)(?:=["']|>))\d+""")
# Previews, and references to extended XMP, which is not copied.
_XMP_PREVIEW = re.compile(
    rb"""<xmp:Thumbnails>.*?</xmp:Thumbnails>|\sxmpNote:HasExtendedXMP=["']\w*["']""", re.DOTALL
)


@dataclass(frozen=True)
class Metadata:
    """The metadata of a photo's file.

    icc: the ICC colour profile.
    exif: the EXIF block for upright samples; it begins with a TIFF header, without the prefix
    "Exif".
    xmp: the XMP packet for upright samples.
    iptc: the IPTC records.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None


@dataclass(frozen=True)
class Photo:
    """The samples of an image file and its metadata.

    samples: (H, W, C) uint8 or uint16, C = 1 gray, 2 gray + alpha, 3 RGB, 4 RGBA.
    damage: what is wrong with a file that has been decoded in part; None if it is intact.
    omissions: descriptions of the content of the file that is left out.
    """

    samples: np.ndarray
    metadata: Metadata
    damage: str | None = None
    omissions: tuple[str, ...] = ()


def count_words(count: int, noun: str) -> str:
    """Return a count with its noun, such as "1 page" or "2 pages"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def find_orientation(metadata: Metadata) -> int:
    """Return the orientation in a file's metadata, 1..8 as in EXIF; 1 if there is none."""
    orientation = exif_orientation(metadata.exif) if metadata.exif else None
    if orientation is None and metadata.xmp and (match := _XMP_ORIENTATION.search(metadata.xmp)):
        orientation = int(match[2])
    return orientation if orientation is not None and 1 <= orientation <= 8 else 1


def upright_metadata(metadata: Metadata) -> tuple[Metadata, list[str]]:
    """Return a file's metadata for upright samples, and descriptions of what cannot be read."""
    exif, xmp, omissions = metadata.exif, metadata.xmp, list[str]()
    if exif:
        try:
            exif = upright_exif(exif)
            sized_exif(exif, 1, 1)  # fails now rather than when the photo is written
        except ValueError:
            exif, omissions = None, ["EXIF that cannot be read"]
    if xmp:
        xmp = _XMP_PREVIEW.sub(b"", _XMP_ORIENTATION.sub(rb"\g<1>1", xmp))
    icc = metadata.icc or None
    return replace(metadata, icc=icc, exif=exif or None, xmp=xmp or None), omissions


def fit_metadata(
    metadata: Metadata, layout: Layout, kind: str | None = None
) -> tuple[Metadata, list[str]]:
    """Return the metadata for samples of a layout, and descriptions of what is left out.

    A colour profile of another colour space is left out, and metadata that the format of the output
    file, kind, cannot hold.
    """
    omissions, parts = list[str](), dict[str, bytes]()
    for part in _NAMES:
        value = getattr(metadata, part)
        if value is None:
            continue
        if (misfit := _describe_misfit(part, value, layout.channels, kind)) is not None:
            omissions.append(misfit)
            continue
        if part == "exif":
            value = sized_exif(value, layout.height, layout.width)
        elif part == "xmp":
            value = _XMP_WIDTH.sub(rb"\g<1>%d" % layout.width, value)
            value = _XMP_HEIGHT.sub(rb"\g<1>%d" % layout.height, value)
        parts[part] = value
    return Metadata(**parts), omissions


def _describe_misfit(part: str, value: bytes, channels: int, kind: str | None) -> str | None:
    """Describe why a part of the metadata is left out; None if it fits. See `fit_metadata`."""
    name = _NAMES[part]
    if part not in _PARTS.get(kind or "", _NAMES):
        return name
    if kind == "JPEG" and len(value) > _LONGEST_IN_JPEG[part]:
        return f"{name}, whose {len(value)} bytes do not fit a JPEG"
    space, image_space = value[16:20], b"GRAY" if channels <= 2 else b"RGB "
    if part == "icc" and space != image_space:  # in the profile's header, ICC.1 section 7.2
        name = space.decode("latin-1").strip() or "unknown"
        return f"{name} colour profile, which does not fit {image_space.decode().strip()}"
    return None
