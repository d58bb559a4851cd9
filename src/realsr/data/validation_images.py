"""Validation images: fixed crops, degraded once."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from realsr.core.errors import UserError
from realsr.core.seeding import numpy_generator
from realsr.data.dataset import cut_mirrored
from realsr.data.degradations.degradation import OnlineDegradation, to_batch
from realsr.data.folders import has_hr_and_lr, match_folders
from realsr.data.pairs import Pair
from realsr.imaging import crop_to_multiple, read_uint8, resize, to_float, to_uint8

logger = logging.getLogger("realsr")


@dataclass(frozen=True)
class EvaluationImage:
    """lr (3, h, w) and hr (3, s*h, s*w), float32 in 0..1; hr is None without a reference."""

    name: str
    lr: Tensor
    hr: Tensor | None


@dataclass(frozen=True)
class ValidationImage(EvaluationImage):
    """An evaluation image with HR."""

    hr: Tensor


def load_validation(
    pairs: Sequence[Pair],
    scale: int,
    degradation: OnlineDegradation,
    seed: int,
    largest: int,
    most: int,
) -> list[ValidationImage]:
    """Read up to `most` pairs, each cropped to its central `largest` x `largest` HR pixels.

    Each is degraded once, with a random generator derived from its name, so that all validations
    use the same images.
    """
    images = (read_image(pair.name, pair.hr, pair.lr, scale, "refuse") for pair in pairs[:most])
    return [_prepare(image, scale, degradation, seed, largest) for image in images]


def read_folders(
    hr: Path, lr: Path | None, scale: int, damaged: str, lr_name: str | None = None
) -> Iterator[ValidationImage]:
    """Yield whole images: HR cropped to a multiple of the scale, LR from its folder or bicubic.

    damaged: see `realsr.imaging.read_uint8`; lr_name: see `match_folders`.

    Raises UserError if names or sizes of HR and LR do not match, ImageError for an unreadable file.
    """
    for name, paths in match_folders(hr, lr, scale, lr_name).items():
        yield read_image(name, *paths, scale, damaged)


def read_image(
    name: str,
    hr: Path,
    lr: Path | None,
    scale: int,
    damaged: str,
    side: int | None = None,
    area: bool = False,
) -> ValidationImage:
    """Read an image's HR, and its LR if there is a file; see `prepare_pair`.

    Raises ImageError for an unreadable file, UserError if LR's size is not HR's / scale, ValueError
    if HR is smaller than the scale.
    """
    original = read_uint8(hr, damaged)
    small = None if lr is None else to_float(read_uint8(lr, damaged))
    if side is not None and min(original.shape[:2]) < side:
        size = f"{original.shape[1]}x{original.shape[0]}"
        logger.warning("%s: %s pixels, upscaled to the protocol's %d pixels a side", hr, size, side)
    small, image = prepare_pair(original, scale, small, side, area)
    if [side * scale for side in small.shape[1:]] != list(image.shape[1:]):
        size, file_size = (f"{s[1]}x{s[0]}" for s in (image.shape[1:], original.shape))
        preparation = f"{file_size}, prepared as " if size != file_size else ""
        raise UserError(
            f"{lr}: {small.shape[2]}x{small.shape[1]} pixels, but HR is {preparation}{size}; at "
            f"scale={scale} HR must be {scale} times as large"
        )
    return ValidationImage(name, small, image)


def prepare_pair(
    original: np.ndarray,
    scale: int,
    lr: Tensor | None = None,
    side: int | None = None,
    area: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return LR and HR of an original (H, W, 3) uint8, float32 on the 8-bit grid.

    side: HR is the original resized to a square of this side by OpenCV's INTER_AREA; None: the
        original cropped to a multiple of the scale.
    area: without `lr`, LR is the original resized by INTER_AREA instead of HR downscaled by
        bicubic.

    Raises ValueError for an original smaller than the scale.
    """
    hr = crop_to_multiple(to_float(original), scale)
    if side is not None:
        hr = _resize_area(original, (side, side))
    if lr is None and area:
        lr = _resize_area(original, (hr.shape[1] // scale, hr.shape[2] // scale))
    return shrink(hr, scale) if lr is None else lr, hr


def _resize_area(image_uint8: np.ndarray, size: tuple[int, int]) -> Tensor:
    return to_float(cv2.resize(image_uint8, size[::-1], interpolation=cv2.INTER_AREA))


def shrink(hr: Tensor, scale: int) -> Tensor:
    """Return HR (3, H, W) downscaled by bicubic and rounded to the 8-bit grid, as in a file."""
    return to_float(to_uint8(resize(hr, factor=1 / scale)))


def load_validation_folder(
    folder: Path,
    scale: int,
    degradation: OnlineDegradation,
    seed: int,
    largest: int,
    most: int,
    damaged: str,
    lr_name: str | None = None,
) -> list[ValidationImage]:
    """Read the folder of `data.validation`.

    HR and LR images are used unchanged. Without LR images, LR is HR downscaled by bicubic and
    degraded.

    folder: with subfolders HR/ and LR/, or with HR and LR images, or with HR images only.
    lr_name: see `match_folders`.
    """
    hr, lr = folder, folder
    if (folder / "HR").is_dir():
        hr, lr = folder / "HR", folder / "LR"
    has_lr = hr != lr or has_hr_and_lr(folder, scale, lr_name)
    images = read_folders(hr, lr if has_lr else None, scale, damaged, lr_name)
    online = None if has_lr else degradation
    return [_prepare(image, scale, online, seed, largest) for image in islice(images, most)]


def _prepare(
    image: ValidationImage,
    scale: int,
    degradation: OnlineDegradation | None,
    seed: int,
    largest: int,
) -> ValidationImage:
    """Crop an image to its centre and degrade the crop, unless `degradation` is None."""
    height, width = (min(side, max(1, largest // scale)) for side in image.lr.shape[1:])
    top, left = (image.lr.shape[1] - height) // 2, (image.lr.shape[2] - width) // 2
    lr = image.lr[:, top : top + height, left : left + width]
    top, left, height, width = (scale * value for value in (top, left, height, width))
    hr = image.hr[:, top : top + height, left : left + width]
    if degradation is None:
        return ValidationImage(image.name, lr.contiguous(), hr)
    crop, margin = to_uint8(lr), 0  # a degradation of LR treats the crop as a whole image
    if degradation.reads == "hr":
        margin = degradation.margin
        region = top - margin, left - margin, height + 2 * margin, width + 2 * margin
        crop = cut_mirrored(to_uint8(image.hr), *region)
    rng = numpy_generator(seed, "validation", image.name)
    arrays = degradation.prepare(crop, margin, scale, rng)
    lr = degradation.apply(to_batch(arrays, to_uint8(hr)))[0]
    return ValidationImage(image.name, lr.contiguous(), hr)
