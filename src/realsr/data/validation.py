"""Images to validate on: fixed crops with a fixed look."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from realsr.data.look import Look
from realsr.data.pairs import Pair
from realsr.errors import UserError
from realsr.imaging import crop_to_multiple, list_images, read_uint8, resize, to_float, to_uint8
from realsr.seeding import numpy_generator


@dataclass(frozen=True)
class ValidationImage:
    """lr (3, h, w) and hr (3, s*h, s*w), float32 in 0..1."""

    name: str
    lr: Tensor
    hr: Tensor


def load_validation(
    pairs: Sequence[Pair], scale: int, look: Look, seed: int, largest: int, most: int
) -> list[ValidationImage]:
    """Read up to `most` pairs, each cut to its central `largest` x `largest` HR pixels.

    The look is put on once, by a generator of the pair's name, so that all validations see the same.
    """
    return [_load(pair, scale, look, seed, largest) for pair in pairs[:most]]


def read_folders(hr: Path, lr: Path | None, scale: int) -> Iterator[ValidationImage]:
    """Read whole images one by one: HR cropped to a multiple of the scale, LR from its folder or by bicubic.

    LR that is made here is rounded to 8 bit, as a file's would be. Raises UserError where names or sizes of HR and
    LR do not match, ImageError for what cannot be read.
    """
    lr_paths = {} if lr is None else {path.stem: path for path in list_images(lr)}
    hr_paths = {path.stem: path for path in list_images(hr)}
    if lr is not None and (unmatched := sorted(hr_paths.keys() ^ lr_paths.keys())):
        raise UserError(f"{hr} and {lr} do not have the same names; only one has {', '.join(unmatched[:5])}")
    for name, path in hr_paths.items():
        image = crop_to_multiple(to_float(read_uint8(path)), scale)
        if lr is None:
            small = to_float(to_uint8(resize(image, factor=1 / scale)))
        else:
            small = to_float(read_uint8(lr_paths[name]))
            if [side * scale for side in small.shape[1:]] != list(image.shape[1:]):
                raise UserError(
                    f"{lr_paths[name]}: {small.shape[2]}x{small.shape[1]} pixels, but its HR has "
                    f"{image.shape[2]}x{image.shape[1]}; at scale={scale} it must be {scale} times as large"
                )
        yield ValidationImage(name, small, image)


def load_validation_folder(
    folder: Path, scale: int, look: Look, seed: int, largest: int, most: int
) -> list[ValidationImage]:
    """Read `data.validation`: HR/ and LR/ are taken as they are; of HR images alone, LR is bicubic with the look."""
    both = (folder / "HR").is_dir()
    images = read_folders(folder / "HR", folder / "LR", scale) if both else read_folders(folder, None, scale)
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
