"""One image file of known contents."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

FEW = (23, 37)  # rows and columns of most files: no multiple of 8, of a strip or of a tile


@dataclass(frozen=True)
class Case:
    """An image file.

    kind, about: its row in the table, and what is special within it. suffix, data: the file.
    expected: (H, W, C) samples that must be read; None for a file that must be refused.
    raw: (H, W, C) numbers that another reader finds, where there is another.
    tolerance: the largest difference of a sample, for compression with loss and for conversions of colour.
    says: what the error must say, or the log line of a file that is read; empty if there must be no line.
    keeps: bytes that parts of the photo's metadata must hold, by the part's name.
    """

    kind: str
    about: str
    suffix: str
    data: bytes
    expected: np.ndarray | None
    raw: np.ndarray | None = None
    tolerance: int = 0
    says: str = ""
    keeps: Mapping[str, bytes] = field(default_factory=dict)


def random_samples(
    channels: int, bits: int, shape: tuple[int, int] = FEW, seed: int = 0
) -> np.ndarray:
    """(H, W, channels) numbers below 2**bits in the smallest unsigned type, the least and the greatest among them."""
    kind = np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32
    samples = np.random.default_rng([seed, channels, bits]).integers(
        0, 2**bits, (*shape, channels), dtype=kind
    )
    samples[0, 0], samples[0, 1] = 0, 2**bits - 1
    return samples


def grow(samples: np.ndarray, bits: int) -> np.ndarray:
    """Numbers of 1, 2 or 4 bits -> uint8 of the full range."""
    return (samples * (255 // (2**bits - 1))).astype(np.uint8)


def straight(samples: np.ndarray) -> np.ndarray:
    """(H, W, C) whose last channel is alpha that the others were multiplied by -> before that."""
    top, alpha = np.iinfo(samples.dtype).max, samples[..., -1:].astype(float)
    colour = np.rint((samples[..., :-1].astype(float) * top / np.maximum(alpha, 1)).clip(0, top))
    return np.concatenate([colour.astype(samples.dtype), samples[..., -1:]], 2)


def rgb_from_cmyk(samples: np.ndarray) -> np.ndarray:
    """(H, W, 4) uint8 of ink -> RGB without profiles: what the inks leave of the light."""
    light = 255.0 - samples
    return np.rint(light[..., :3] * light[..., 3:] / 255).astype(np.uint8)


def smooth_samples(channels: int, shape: tuple[int, int] = FEW) -> np.ndarray:
    """(H, W, channels) uint8 that compression with loss changes little."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.stack(
        [128 + 90 * np.sin((x + c * y) / 25 + c) for c in range(1, channels + 1)], 2
    ).astype(np.uint8)
