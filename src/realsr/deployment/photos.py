"""The photos that 8-bit ranges are measured on, and those that files are judged by."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from realsr.data.photographs import load_photograph
from realsr.data.validation import shrink
from realsr.evaluation.images import EvaluationImage, ImageReaders, match_images, prepare_pair
from realsr.evaluation.protocol import Protocol
from realsr.imaging import crop_to_multiple, list_images, read_uint8, to_float

JUDGED = ("astronaut", "chelsea", "coffee", "rocket")
CALIBRATED = (
    "brick", "camera", "coins", "grass", "gravel", "hubble_deep_field", "immunohistochemistry", "retina",
    "stereo_motorcycle",
)  # fmt: skip
"""scikit-image's photographs for either purpose; no photo serves both."""


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


def load_judged(hr: Path | None, protocol: Protocol, scale: int, damaged: str = "refuse") -> ImageReaders:
    """Return a folder's images as `match_images` does; without one, scikit-image's four."""
    if hr is not None:
        return match_images(hr, None, protocol, scale, damaged)
    return {name: partial(_prepare, name, protocol, scale) for name in JUDGED}


def list_shared(calibrated: Path | None, judged: Path | None) -> list[str]:
    """Return the photos of one folder that are in the other, too, by their content."""
    if calibrated is None or judged is None:
        return []
    contents: Mapping[bytes, Path] = {path.read_bytes(): path for path in list_images(judged)}
    return [path.name for path in list_images(calibrated) if path.read_bytes() in contents]


def _prepare(name: str, protocol: Protocol, scale: int) -> EvaluationImage:
    return EvaluationImage(name, *prepare_pair(_load(name), protocol, scale))


def _load(name: str) -> np.ndarray:
    return load_photograph(name, "export without folders of photos", "onnx")


def _middle(photo: Tensor, side: int) -> Tensor:
    top, left = (max(0, (size - side) // 2) for size in photo.shape[1:])
    return torch.clone(photo[:, top : top + side, left : left + side])
