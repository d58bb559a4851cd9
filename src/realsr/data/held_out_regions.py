"""Held-out regions of pairs: with few photos, a whole photo is too much to leave out of a training."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from realsr.core.files import write_bytes
from realsr.core.seeding import numpy_generator
from realsr.data.pairs import Pair
from realsr.imaging import encode_uint8, read_uint8

SHARE = 0.2  # of the longer side
MIN_REGION = 64  # HR pixels; SSIM needs more than its window of 11 inside the border


def hold_out_regions(
    pairs: Sequence[Pair], folder: Path, scale: int, crop: int, count: int, seed: int
) -> tuple[list[Pair], list[Pair]]:
    """Split up to `count` pairs, drawn by name and seed, and return training and held-out pairs.

    A split pair has a part for the training and a held-out region, the last fifth of its longer
    side. Their images are written to `<folder>/training` and `<folder>/held_out`. A pair is not
    split if its part would be smaller than a `crop` of HR pixels. Pairs that are not split are
    training pairs as they are.
    """
    draws = {pair.name: numpy_generator(seed, "regions", pair.name).random() for pair in pairs}
    parts: dict[str, Pair] = {}
    regions: list[Pair] = []
    for pair in sorted(pairs, key=lambda pair: draws[pair.name]):
        if len(regions) == count:
            break
        lr = read_uint8(pair.lr)
        axis = int(np.argmax(lr.shape[:2]))
        region = -(-max(round(SHARE * lr.shape[axis] * scale), MIN_REGION) // scale)
        cut = lr.shape[axis] - region
        if cut * scale < crop:
            continue
        images = {"HR": (read_uint8(pair.hr), cut * scale), "LR": (lr, cut)}
        for part, index in (("training", 0), ("held_out", 1)):
            files = {}
            for kind, (image, place) in images.items():
                files[kind] = folder / part / kind / f"{pair.name}.png"
                _write(files[kind], np.split(image, [place], axis)[index])
            cut_pair = replace(pair, hr=files["HR"], lr=files["LR"])
            if part == "training":
                parts[pair.name] = cut_pair
            else:
                regions.append(cut_pair)
    return [parts.get(pair.name, pair) for pair in pairs], sorted(regions, key=lambda p: p.name)


def _write(path: Path, image_uint8: np.ndarray) -> None:
    """Write an image unless the file has its content: equal files keep their time of change."""
    content = encode_uint8(np.ascontiguousarray(image_uint8), path.suffix)
    if not path.is_file() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
