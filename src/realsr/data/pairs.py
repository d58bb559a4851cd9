"""Pairs on disk, `HR/<name>.png` and `LR/<name>.png`, of this package or others; and their split."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from realsr.core.errors import UserError
from realsr.core.files import write_bytes
from realsr.core.seeding import numpy_generator
from realsr.data.folders import join_names, match_folders
from realsr.imaging import encode_uint8, read_uint8

logger = logging.getLogger("realsr")

REGION_SHARE = 0.2  # of the longer side of a photo with a held-out region
MIN_REGION = 64  # HR pixels; SSIM needs more than its window of 11 inside the border


@dataclass(frozen=True)
class Pair:
    """The two files of a training pair; LR is HR degraded at the scale."""

    name: str
    hr: Path
    lr: Path


def list_pairs(folder: Path, scale: int, lr_name: str | None = None) -> list[Pair]:
    """Return the pairs of a folder, sorted by name and matched by `match_folders`.

    Raises UserError if a subfolder is missing, or if names or sizes (from the file headers) do not
    match; ImageError if a subfolder has no images.
    """
    for kind in ("HR", "LR"):
        if not (folder / kind).is_dir():
            raise UserError(
                f"{folder / kind}: no such folder; pairs are HR/<name>.png and LR/<name>.png. Make "
                "them with: python -m realsr.make_pairs +track=<track> data.source=FOLDER "
                "work_dir=FOLDER"
            )
    files = match_folders(folder / "HR", folder / "LR", scale, lr_name)
    pairs = [Pair(name, hr, lr) for name, (hr, lr) in sorted(files.items()) if lr is not None]
    mismatches = []
    for pair in pairs:
        (width, height), (lr_width, lr_height) = image_size(pair.hr), image_size(pair.lr)
        if (width, height) != (lr_width * scale, lr_height * scale):
            mismatches.append(f"{pair.name} (HR {width}x{height}, LR {lr_width}x{lr_height})")
    if mismatches:
        raise UserError(
            f"{folder}: at scale={scale}, HR must be {scale} times as wide and high as LR: "
            f"{join_names(mismatches, 5)}"
        )
    return pairs


def image_size(path: Path) -> tuple[int, int]:
    """Return (width, height) from a file's header. Raises UserError if it is not an image."""
    try:
        with Image.open(path) as image:
            return image.size
    except OSError as error:
        raise UserError(
            f"{path}: not a readable image ({error}); remove it or make it again"
        ) from error


def hold_out(pairs: list[Pair], fraction: float, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Split pairs into training pairs and held-out pairs, by their names and the seed.

    With a fraction above 0 and two or more pairs, at least one is held out.
    """
    if not 0 <= fraction < 1:
        raise UserError(
            f"data.held_out={fraction}: expected a fraction of all pairs, at least 0 and below 1"
        )
    count = min(max(round(fraction * len(pairs)), 1 if fraction > 0 else 0), len(pairs) - 1)
    draws = {pair.name: numpy_generator(seed, "held out", pair.name).random() for pair in pairs}
    held_out = set(sorted(draws, key=draws.__getitem__)[:count])
    training = [pair for pair in pairs if pair.name not in held_out]
    return training, [pair for pair in pairs if pair.name in held_out]


def hold_out_regions(
    pairs: Sequence[Pair], folder: Path, scale: int, crop: int, count: int, seed: int
) -> tuple[list[Pair], list[Pair]]:
    """Split up to `count` pairs, drawn by name and seed, and return training and held-out pairs.

    With few photos, a whole photo is too much to leave out of a training. A split pair has a part
    for the training and a held-out region, the last fifth of its longer side. Their images are
    written to `<folder>/training` and `<folder>/held_out`. A pair is not split if its part would be
    smaller than a `crop` of HR pixels. Pairs that are not split are training pairs as they are.
    """
    draws = {pair.name: numpy_generator(seed, "regions", pair.name).random() for pair in pairs}
    parts: dict[str, Pair] = {}
    regions: dict[str, Pair] = {}
    for pair in sorted(pairs, key=lambda pair: draws[pair.name]):
        if len(regions) == count:
            break
        lr = read_uint8(pair.lr)
        axis = int(np.argmax(lr.shape[:2]))
        region = -(-max(round(REGION_SHARE * lr.shape[axis] * scale), MIN_REGION) // scale)
        cut = lr.shape[axis] - region
        if cut * scale < crop:
            continue
        images = {"HR": (read_uint8(pair.hr), cut * scale), "LR": (lr, cut)}
        for index, (part, cut_pairs) in enumerate((("training", parts), ("held_out", regions))):
            files = {kind: folder / part / kind / f"{pair.name}.png" for kind in images}
            for kind, (image, place) in images.items():
                _write_if_changed(files[kind], np.split(image, [place], axis)[index])
            cut_pairs[pair.name] = replace(pair, hr=files["HR"], lr=files["LR"])
    training = [parts.get(pair.name, pair) for pair in pairs]
    return training, [regions[name] for name in sorted(regions)]


def _write_if_changed(path: Path, image_uint8: np.ndarray) -> None:
    """Write an image; a file with this content keeps its time of change."""
    content = encode_uint8(np.ascontiguousarray(image_uint8), path.suffix)
    if not path.is_file() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)


def keep_large(pairs: list[Pair], crop: int) -> list[Pair]:
    """Return the pairs whose HR is large enough for a crop; a warning names the others.

    Raises UserError if there are none.
    """
    small = [pair for pair in pairs if min(image_size(pair.hr)) < crop]
    if len(small) == len(pairs):
        raise UserError(
            f"no HR image is as large as a crop of {crop}: use larger photos or set a smaller "
            "trainer.crop"
        )
    if small:
        logger.warning(
            "%d pairs are ignored, since they are smaller than a crop of %d: %s",
            len(small), crop, join_names([pair.name for pair in small], 5),
        )  # fmt: skip
    return [pair for pair in pairs if pair not in small]
