"""The degradation of an image as an array."""

import numpy as np

from realsr.core.errors import UserError
from realsr.core.seeding import numpy_generator
from realsr.data.degradations.degradation import to_batch
from realsr.data.degradations.noise import Noise
from realsr.imaging import to_uint8
from realsr.pairs import synthesis


def degrade(
    hr: np.ndarray,
    scale: int = 4,
    kernel: np.ndarray | None = None,
    noise: np.ndarray | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Return the LR image (h, w, 3) uint8 of an HR image (s*h, s*w, 3) uint8.

    The degradation is that of `make_pairs` and training.

    Args:
        hr: the HR image; its sides must be multiples of the scale.
        scale: any; with bicubic at scale 1, LR is HR plus noise.
        kernel: the blur kernel for this scale, which sums to 1; None: bicubic.
        noise: a noise patch (h', w', 3) uint8; a random crop, minus its mean, is added. None:
            no noise.
        seed: the seed of the random crop.
    """
    if any(side % scale for side in hr.shape[:2]):
        raise UserError(
            f"degrade: HR of {hr.shape[1]}x{hr.shape[0]}: expected multiples of scale={scale}"
        )
    lr = synthesis.degrade(hr, scale, kernel)
    if noise is None:
        return lr
    injection = Noise("random", [noise])
    arrays = injection.prepare(lr, 0, scale, numpy_generator(seed, "degrade"))
    return to_uint8(injection.apply(to_batch(arrays, hr))[0])
