"""The shuffled degradation of BSRGAN (Zhang et al. 2021), with random parameters for each crop."""

from typing import Annotated

import cv2
import numpy as np
from scipy import linalg

from realsr.core.ranges import Range
from realsr.data.degradations import operations
from realsr.data.degradations.noise_jpeg import Quality, draw_quality
from realsr.data.degradations.operations import Probability

Level = Annotated[int, Range(0, 255)]
INTERPOLATIONS = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA)
SHRINK, SHRINK_TO_LR = 2, 3


class BSRGAN(operations.BlindDegradation):
    """Degrades HR by two blurs, two downscalings, Gaussian noise and JPEG in random order.

    The second downscaling follows the first, and JPEG is the last step. The camera pipeline of the
    paper's section 3.4 is not included; the release omits it too if it has no model of it.

    Args:
        margin: HR pixels around a crop, rounded up to a multiple of the scale.
        half_first: probability that scale 4 begins with a downscaling by 2.
        noise: range of Gaussian noise, in levels of 255.
        middle_jpeg: probability of a further JPEG among the shuffled steps.
        jpeg: range of the quality.
    """

    def __init__(
        self,
        margin: Annotated[int, Range(0)],
        half_first: Probability,
        noise: tuple[Level, Level],
        middle_jpeg: Probability,
        jpeg: tuple[Quality, Quality],
        scale: int,
    ):
        super().__init__(margin, scale)
        self._half_first, self._noise = half_first, noise
        self._middle_jpeg, self._quality = middle_jpeg, jpeg

    def degrade(self, image: np.ndarray, scale: int, rng: np.random.Generator) -> np.ndarray:
        """Return LR (h, w, 3) of an HR image (s h, s w, 3)."""
        lr_size = image.shape[0] // scale, image.shape[1] // scale
        if scale == 4 and rng.random() < self._half_first:
            image, scale = _resize(image, 2 * lr_size[0], 2 * lr_size[1], rng), 2
        order = list(rng.permutation(6))
        first, second = sorted((order.index(SHRINK), order.index(SHRINK_TO_LR)))
        order[first], order[second] = SHRINK, SHRINK_TO_LR
        for step in order:
            if step < SHRINK:
                image = operations.blur(image, draw_kernel(scale, rng))
            elif step == SHRINK:
                image = _shrink(image, scale, rng)
            elif step == SHRINK_TO_LR:
                image = _resize(image, *lr_size, rng)
            elif step == 4:
                level = int(rng.integers(self._noise[0], self._noise[1] + 1))
                image = _add_noise(image, level, rng)
            elif rng.random() < self._middle_jpeg:
                image = operations.add_jpeg(image, draw_quality(self._quality, rng))
        return operations.add_jpeg(image, draw_quality(self._quality, rng))


def draw_kernel(scale: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a Gaussian kernel of side 7 to 25, round or anisotropic (section 3.1).

    The standard deviation of a round kernel is at most 2 + 0.2 scale; the variances of an
    anisotropic kernel are at most 4 + scale.
    """
    size = 2 * int(rng.integers(2, 12)) + 3
    if rng.random() < 0.5:
        sigmas = np.sqrt((4 + scale) * rng.random(2).clip(1e-3))
        form = operations.quadratic_form(size, (sigmas[0], sigmas[1]), rng.uniform(0, np.pi))
    else:
        sigma = (2 + 0.2 * scale) * max(rng.random(), 1e-3)
        form = operations.quadratic_form(size, (sigma, sigma))
    kernel = np.exp(-form / 2)
    return kernel / kernel.sum()


def _resize(image: np.ndarray, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    return operations.resize_randomly(image, height, width, INTERPOLATIONS, rng).clip(0, 1)


def _shrink(image: np.ndarray, scale: int, rng: np.random.Generator) -> np.ndarray:
    """Downscale by up to twice the scale, or blur and take every s-th sample (section 3.2)."""
    if rng.random() < 0.75:
        factor = rng.uniform(1, 2 * scale)
        height, width = (max(1, int(side / factor)) for side in image.shape[:2])
        return _resize(image, height, width, rng)
    sigma = rng.uniform(0.1, 0.6 * scale)
    # The kernel is centred on blocks of s x s pixels, of which the first pixel is sampled.
    form = operations.quadratic_form(25, (sigma, sigma), shift=(scale - 1) / 2)
    kernel = np.exp(-form / 2)
    return operations.blur(image, kernel / kernel.sum())[::scale, ::scale]


def _add_noise(image: np.ndarray, level: int, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise: gray (0.4), independent per channel (0.4) or correlated (0.2)."""
    kind = rng.random()
    if kind < 0.8:
        return operations.add_gaussian_noise(image, level / 255, kind < 0.4, rng)
    basis = linalg.orth(rng.random((3, 3)))
    covariance = np.abs(basis.T @ np.diag(rng.random(3)) @ basis)
    noise = rng.multivariate_normal(np.zeros(3), covariance, image.shape[:2], check_valid="ignore")
    return (image + (level / 255 * noise).astype(np.float32)).clip(0, 1)
