from pathlib import Path

import numpy as np

from realsr.imaging import write_uint8


def write_images(*paths: str, size: tuple[int, int] = (5, 7)) -> None:
    for path in map(Path, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_uint8(path, np.full((*size, 3), 90, np.uint8))


def draw_disc(colour: tuple[int, ...], dtype: type, soft: bool, under: int) -> np.ndarray:
    """A disc of one colour (8-bit levels), (41, 41, C + 1), transparent outside, where all colours are `under`."""
    levels = np.iinfo(dtype).max // 255
    y, x = np.mgrid[:41, :41] - 20
    alpha = np.rint(np.clip((14 - np.hypot(y, x)) / (6 if soft else 0.001), 0, 1) * 255)
    samples = np.full((41, 41, len(colour) + 1), under * levels, dtype)
    samples[..., -1] = alpha * levels
    samples[alpha > 0, :-1] = np.array(colour) * levels
    return samples
