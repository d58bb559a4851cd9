"""Images to validate on: fixed crops with a fixed look."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from realsr.core.errors import UserError
from realsr.core.seeding import numpy_generator
from realsr.data.folders import holds_both, match_folders
from realsr.data.online_degradation import Look
from realsr.data.pairs import Pair
from realsr.imaging import crop_to_multiple, read_uint8, resize, to_float, to_uint8


@dataclass(frozen=True)
class EvaluationImage:
    """lr (3, h, w) and hr (3, s*h, s*w), float32 in 0..1; hr is None for a photo that is judged without."""

    name: str
    lr: Tensor
    hr: Tensor | None


@dataclass(frozen=True)
class ValidationImage(EvaluationImage):
    """An image that has HR."""

    hr: Tensor


def load_validation(
    pairs: Sequence[Pair], scale: int, look: Look, seed: int, largest: int, most: int
) -> list[ValidationImage]:
    """Read up to `most` pairs, each cut to its central `largest` x `largest` HR pixels.

    The look is put on once, by a generator of the pair's name, so that all validations see the same.
    """
    return [_load(pair, scale, look, seed, largest) for pair in pairs[:most]]


def read_folders(
    hr: Path, lr: Path | None, scale: int, damaged: str = "refuse", lr_name: str | None = None
) -> Iterator[ValidationImage]:
    """Read whole images one by one: HR cropped to a multiple of the scale, LR from its folder or by bicubic.

    damaged: see `realsr.imaging.read_picture`; lr_name: see `match_folders`.

    Raises UserError where names or sizes of HR and LR do not match, ImageError for what cannot be read.
    """
    for name, (hr_path, lr_path) in match_folders(hr, lr, scale, lr_name).items():
        original = read_uint8(hr_path, damaged)
        image = crop_to_multiple(to_float(original), scale)
        if lr_path is None:
            small = shrink(image, scale)
        else:
            small = to_float(read_uint8(lr_path, damaged))
            check_sizes(lr_path, small, image, scale, original.shape)
        yield ValidationImage(name, small, image)


def shrink(hr: Tensor, scale: int) -> Tensor:
    """Return HR (3, H, W) shrunk by bicubic and rounded to 8 bit, as a file's would be."""
    return to_float(to_uint8(resize(hr, factor=1 / scale)))


def check_sizes(path: Path | None, lr: Tensor, hr: Tensor, scale: int, original: Sequence[int]) -> None:
    """Raise UserError, naming LR's file, where HR is not `scale` times as large.

    original: height and width of HR's file, before it was cropped or resized.
    """
    if [side * scale for side in lr.shape[1:]] != list(hr.shape[1:]):
        preparation = f"{original[1]}x{original[0]}, prepared as " if list(original[:2]) != list(hr.shape[1:]) else ""
        raise UserError(
            f"{path}: {lr.shape[2]}x{lr.shape[1]} pixels, but its HR has {preparation}{hr.shape[2]}x{hr.shape[1]}; at "
            f"scale={scale} it must be {scale} times as large"
        )


def load_validation_folder(
    folder: Path,
    scale: int,
    look: Look,
    seed: int,
    largest: int,
    most: int,
    damaged: str = "refuse",
    lr_name: str | None = None,
) -> list[ValidationImage]:
    """Read `data.validation`: HR and LR are taken as they are; of HR images alone, LR is bicubic with the look.

    folder: with HR/ and LR/, or with both kinds of images, or HR images alone. lr_name: see `match_folders`.
    """
    hr, lr = folder, folder
    if (folder / "HR").is_dir():
        hr, lr = folder / "HR", folder / "LR"
    both = hr != lr or holds_both(folder, scale, lr_name)
    images = read_folders(hr, lr if both else None, scale, damaged, lr_name)
    seen = Look() if both else look
    return [_see(_central(image, scale, largest), seen, seed) for image in islice(images, most)]


def _load(pair: Pair, scale: int, look: Look, seed: int, largest: int) -> ValidationImage:
    image = ValidationImage(pair.name, to_float(read_uint8(pair.lr)), to_float(read_uint8(pair.hr)))
    return _see(_central(image, scale, largest), look, seed)


def _central(image: ValidationImage, scale: int, largest: int) -> ValidationImage:
    size = [min(side, max(1, largest // scale)) for side in image.lr.shape[1:]]
    top, left = ((side - kept) // 2 for side, kept in zip(image.lr.shape[1:], size, strict=True))
    lr = image.lr[:, top : top + size[0], left : left + size[1]]
    top, left, height, width = (scale * value for value in (top, left, *size))
    return ValidationImage(image.name, lr, image.hr[:, top : top + height, left : left + width])


def _see(image: ValidationImage, look: Look, seed: int) -> ValidationImage:
    lr = look(image.lr.permute(1, 2, 0).numpy(), numpy_generator(seed, "validation", image.name))
    return ValidationImage(image.name, torch.from_numpy(lr).permute(2, 0, 1).contiguous(), image.hr)
