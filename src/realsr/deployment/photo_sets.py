"""The photos that ranges of INT8 are measured on, and those that files are scored on."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from realsr.core.errors import UserError
from realsr.data.validation_images import EvaluationImage, prepare_pair, shrink
from realsr.evaluation.protocol import Protocol
from realsr.evaluation.scoring import ImageReaders, match_images
from realsr.imaging import crop_to_multiple, list_images, read_uint8, to_float
from realsr.simulation.camera import load_photograph

EVALUATED = ("astronaut", "chelsea", "coffee", "rocket")
CALIBRATED = (
    "brick", "camera", "coins", "grass", "gravel", "hubble_deep_field", "immunohistochemistry", "retina",
    "stereo_motorcycle",
)  # fmt: skip
"""scikit-image's photographs for either purpose; no photo serves both."""

OUTER_LEVELS = (0.01, 0.99)  # quantiles, so that a single bright pixel does not count
MIN_LEVELS, FEW_LEVELS, USUAL_LEVELS = 64, 128, 220  # of 255; see docs/deployment.md
MIN_PHOTOS = 5
MIN_SATURATION = 16  # levels between the channels of a pixel


def load_calibration(folder: Path | None, side: int, scale: int, damaged: str = "refuse") -> list[Tensor]:
    """Return the middle of each photo as LR, (1, 3, h, w) float32 in 0..1, at most `side` pixels a side.

    A folder's photos are taken as they are; of scikit-image's, which are sharper than a camera's pixels, LR is made by
    bicubic. damaged: see `read_picture`.

    Raises ImageError for a folder that cannot be used, UserError where scikit-image is missing.
    """
    if folder is not None:
        photos = [to_float(read_uint8(path, damaged)) for path in list_images(folder)]
    else:
        photos = [shrink(crop_to_multiple(to_float(_load(name)), scale), scale) for name in CALIBRATED]
    return [_middle(photo, side)[None].contiguous() for photo in photos]


def check_calibration(photos: Sequence[Tensor], name: str) -> list[str]:
    """Return warnings about photos of which ranges of INT8 are measured.

    name: what they are, for messages. Raises UserError where they cover so few levels that INT8 would cut off most of
    other photos.
    """
    low, high = np.quantile(np.concatenate([photo.numpy().ravel() for photo in photos]), OUTER_LEVELS)
    levels = round(255 * float(high - low))
    if levels < MIN_LEVELS:
        raise UserError(
            f"{name}: these photos cover {levels} of 255 levels, at least {MIN_LEVELS} are needed (usual: "
            f"{USUAL_LEVELS}). INT8 would cut off what other photos have: set int8.photos to photos such as the model "
            "will upscale, ten or more, dark and bright ones"
        )
    warnings = list[str]()
    if len(photos) < MIN_PHOTOS:
        count = "1 photo" if len(photos) == 1 else f"{len(photos)} photos"
        warnings.append(f"INT8 is calibrated on {count} only: set int8.photos to a folder of ten or more")
    if levels < FEW_LEVELS:
        warnings.append(
            f"INT8 is calibrated on photos that cover {levels} of 255 levels (usual: {USUAL_LEVELS}): add dark and "
            "bright ones to int8.photos"
        )
    saturation = np.concatenate([np.ptp(photo.numpy(), axis=1).ravel() for photo in photos])
    if 255 * np.quantile(saturation, OUTER_LEVELS[1]) < MIN_SATURATION:
        warnings.append("INT8 is calibrated on photos without colour: add photos with colours to int8.photos")
    return warnings


def load_evaluation_images(hr: Path | None, protocol: Protocol, scale: int, damaged: str = "refuse") -> ImageReaders:
    """Return a folder's images as `match_images` does; without one, scikit-image's four."""
    if hr is not None:
        return match_images(hr, None, protocol, scale, damaged)
    return {name: partial(_prepare, name, protocol, scale) for name in EVALUATED}


def list_shared(calibrated: Path | None, evaluated: Path | None) -> list[str]:
    """Return the photos of one folder that are in the other, too, by their content."""
    if calibrated is None or evaluated is None:
        return []
    contents: Mapping[bytes, Path] = {path.read_bytes(): path for path in list_images(evaluated)}
    return [path.name for path in list_images(calibrated) if path.read_bytes() in contents]


def _prepare(name: str, protocol: Protocol, scale: int) -> EvaluationImage:
    return EvaluationImage(name, *prepare_pair(_load(name), scale, None, protocol.hr_side, protocol.lr == "area"))


def _load(name: str) -> np.ndarray:
    return load_photograph(name, "export without folders of photos", "onnx")


def _middle(photo: Tensor, side: int) -> Tensor:
    top, left = (max(0, (size - side) // 2) for size in photo.shape[1:])
    return torch.clone(photo[:, top : top + side, left : left + side])
