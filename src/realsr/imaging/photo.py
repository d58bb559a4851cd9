"""A photo as its file holds it: samples, colour profile, and what the camera and its owner tell about it."""

import logging
from dataclasses import dataclass

import numpy as np
from PIL import Image

from realsr.imaging.exif import exif_from_tiff, sized_exif, upright_exif

logger = logging.getLogger("realsr")


@dataclass(frozen=True)
class Metadata:
    """What a photo's file holds besides its samples.

    icc: the ICC colour profile.
    exif: the EXIF block, which begins as a TIFF file does (without the prefix "Exif"), for upright samples.
    """

    icc: bytes | None = None
    exif: bytes | None = None


@dataclass(frozen=True)
class Photo:
    """The samples of an image file and what the file tells about them.

    samples: (H, W, C) uint8 or uint16, C = 1 gray, 2 gray + alpha, 3 RGB, 4 RGBA.
    damage: what is wrong with the file, of which this is what could be decoded; None for a sound file.
    """

    samples: np.ndarray
    metadata: Metadata
    damage: str | None = None


def find_metadata(image: Image.Image, data: bytes, name: str) -> Metadata:
    """Return the metadata of a file that Pillow has loaded; `data` is its contents.

    EXIF that cannot be read is left out, and a log line tells it.
    """
    exif = None
    try:
        if image.format == "TIFF":
            exif = exif_from_tiff(data)
        elif block := image.info.get("exif") or _imagemagick_exif(image):
            exif = upright_exif(block)
            sized_exif(exif, 1, 1)  # fails now rather than when the photo is written
    except ValueError as error:
        logger.warning("%s: its EXIF cannot be read (%s) and is left out", name, error)
    return Metadata(image.info.get("icc_profile") or None, exif)


def _imagemagick_exif(image: Image.Image) -> bytes | None:
    """EXIF as PNG files held it before there was a chunk for it: a length, then hexadecimal digits."""
    text = image.info.get("Raw profile type exif")
    return bytes.fromhex("".join(text.split()[2:])) if isinstance(text, str) else None


def fit_metadata(metadata: Metadata, height: int, width: int, channels: int, name: str) -> Metadata:
    """Return the metadata as they are to be written with samples of this size and number of channels.

    A colour profile of another colour space is left out, and a log line tells it.
    """
    icc, exif = metadata.icc, metadata.exif
    wanted = b"GRAY" if channels <= 2 else b"RGB "
    if icc is not None and icc[16:20] != wanted:  # the colour space in a profile's header, ICC.1 section 7.2
        found = icc[16:20].decode("latin-1").strip() or "unknown"
        logger.warning("%s: a %s colour profile does not fit %s and is left out", name, found, wanted.decode().strip())
        icc = None
    return Metadata(icc, sized_exif(exif, height, width) if exif else None)
