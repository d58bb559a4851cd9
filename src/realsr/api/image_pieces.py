"""Images as arrays, and the degradation of one image."""

from pathlib import Path

import numpy as np

from realsr.core.errors import UserError
from realsr.core.seeding import numpy_generator
from realsr.data.degradations.degradation import to_batch
from realsr.data.degradations.noise import Noise
from realsr.imaging import read_uint8, to_uint8, write_uint8
from realsr.pairs import synthesis


def read_image(path: str | Path) -> np.ndarray:
    """Return an image file as (H, W, 3) uint8 RGB. Raises ImageError where it cannot be read."""
    return read_uint8(Path(path))


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB, or float32 in 0..1 rounded half to even, in the format of the file's suffix."""
    levels = image if image.dtype == np.uint8 else np.rint(image.clip(0, 1) * 255).astype(np.uint8)
    write_uint8(Path(path), levels)


def degrade(
    hr: np.ndarray, scale: int = 4, kernel: np.ndarray | None = None, noise: np.ndarray | None = None, seed: int = 0
) -> np.ndarray:
    """Return the LR image (h, w, 3) uint8 of an HR image (s*h, s*w, 3) uint8, as pairs and training make it.

    Args:
        hr: its sides are multiples of the scale.
        scale: 2 or 4 for bicubic, any for a kernel.
        kernel: of that scale, sums to 1; None: bicubic.
        noise: a noise patch (h', w', 3) uint8, of which a random crop without its mean is added; None: no noise.
        seed: of the crop of the noise patch.
    """
    if any(side % scale for side in hr.shape[:2]):
        raise UserError(f"degrade: HR of {hr.shape[1]}x{hr.shape[0]}: expected multiples of scale={scale}")
    lr = synthesis.degrade(hr, scale, kernel)
    if noise is None:
        return lr
    injection = Noise([noise])
    arrays = injection.prepare(lr, 0, scale, numpy_generator(seed, "degrade"))
    return to_uint8(injection.apply(to_batch(arrays, hr))[0])
