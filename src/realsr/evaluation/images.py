"""Images to evaluate on: HR and LR by name, prepared as a protocol wants them."""

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from realsr.core.errors import UserError
from realsr.data.folders import list_by_name, match_folders
from realsr.data.validation_images import EvaluationImage, ValidationImage, check_sizes, shrink
from realsr.evaluation.protocol import Protocol
from realsr.imaging import crop_to_multiple, read_uint8, to_float

logger = logging.getLogger("realsr")


ImageReaders = Mapping[str, Callable[[], EvaluationImage]]


def match_images(
    hr: Path | None,
    lr: Path | None,
    protocol: Protocol,
    scale: int,
    damaged: str = "refuse",
    lr_name: str | None = None,
) -> ImageReaders:
    """Return a function for each name, sorted, that reads the image and prepares it.

    hr, lr: folders; one of them may be None. Of HR alone, LR is made as the protocol says.
    damaged: see `read_uint8`. lr_name: see `match_folders`.

    Raises UserError where both are None or names do not match, ImageError for a folder without images. The functions
    raise ImageError for a file that cannot be read, UserError for LR whose size is not HR's / scale, ValueError for HR
    smaller than the scale.
    """
    if hr is not None:
        files: Mapping[str, tuple[Path | None, Path | None]] = match_folders(hr, lr, scale, lr_name)
    elif lr is not None:
        files = {name: (None, path) for name, path in list_by_name(lr).items()}
    else:
        raise UserError("data.hr must be given: say data.hr=DIR (of photos without HR: data.lr=DIR)")
    return {name: partial(read_image, name, *paths, protocol, scale, damaged) for name, paths in files.items()}


def as_readers(images: Iterable[ValidationImage]) -> ImageReaders:
    """Return images that are in memory already as `match_images` would."""
    return {image.name: partial(_read_from_memory, image) for image in images}


def _read_from_memory(image: ValidationImage) -> EvaluationImage:
    return image


def read_image(
    name: str, hr: Path | None, lr: Path | None, protocol: Protocol, scale: int, damaged: str = "refuse"
) -> EvaluationImage:
    """Read one image's files, at least one of which is not None, and prepare it; raises as `match_images` says."""
    small = None if lr is None else to_float(read_uint8(lr, damaged))
    if hr is None:
        assert small is not None
        return EvaluationImage(name, small, None)
    original = read_uint8(hr, damaged)
    if protocol.hr_side is not None and min(original.shape[:2]) < protocol.hr_side:
        size = f"{original.shape[1]}x{original.shape[0]}"
        logger.warning("%s: %s pixels are enlarged to the protocol's %d a side", hr, size, protocol.hr_side)
    small, image = prepare_pair(original, protocol, scale, small)
    if lr is not None:
        check_sizes(lr, small, image, scale, original.shape)
    return EvaluationImage(name, small, image)


def prepare_pair(
    original: np.ndarray, protocol: Protocol, scale: int, lr: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return LR, made unless it is given, and HR of an original (H, W, 3) uint8, as a protocol wants them.

    Raises ValueError for an original smaller than the scale.
    """
    side = protocol.hr_side
    hr = crop_to_multiple(to_float(original), scale) if side is None else _resize_area(original, (side, side))
    if lr is None and protocol.lr == "area":
        lr = _resize_area(original, (hr.shape[1] // scale, hr.shape[2] // scale))
    elif lr is None:
        lr = shrink(hr, scale)
    return lr, hr


def _resize_area(image_uint8: np.ndarray, size: tuple[int, int]) -> Tensor:
    """(H, W, 3) uint8 -> (3, *size) float32 on the 8-bit grid."""
    return to_float(cv2.resize(image_uint8, size[::-1], interpolation=cv2.INTER_AREA))
