"""The high-order degradation of Real-ESRGAN (Wang et al. 2021), random for each crop."""

from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np

from realsr.core.errors import UserError
from realsr.core.ranges import Range
from realsr.data.degradations import operations
from realsr.data.degradations.degradation import KEY
from realsr.data.degradations.noise_jpeg import Quality, draw_quality
from realsr.data.degradations.operations import Probability

Positive = Annotated[float, Range(above=0)]
INTERPOLATIONS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)
SHAPES = {
    f"{shape}{direction}"
    for shape in ("gaussian", "generalised", "plateau")
    for direction in ("", "_anisotropic")
}


@dataclass(frozen=True)
class Stage:
    """One stage: blur, resizing, noise, JPEG, in this order.

    Attributes:
        blur: probability that the stage blurs; sinc: probability that its kernel is a sinc filter.
        sigma: range of the kernel's standard deviations, in pixels of the stage's input.
        resize: relative frequencies of upsampling, downsampling and neither.
        factor: range of the new size, relative to HR; relative to LR in the last stage.
        gaussian: probability that the noise is Gaussian, else Poisson; gray: that it is the same in
            all channels.
        noise: range of Gaussian noise, in levels of 255; poisson: range of the factor on Poisson
            noise.
        jpeg: range of the quality.
    """

    blur: Probability
    sinc: Probability
    sigma: tuple[Positive, Positive]
    resize: tuple[float, float, float]
    factor: tuple[Positive, Positive]
    gaussian: Probability
    gray: Probability
    noise: tuple[float, float]
    poisson: tuple[float, float]
    jpeg: tuple[Quality, Quality]


class HighOrder(operations.BlindDegradation):
    """Degrades HR by stages of blur, resizing, noise and JPEG (Real-ESRGAN, section 3).

    After the noise of the last stage, the image is resized to LR, filtered by a sinc filter and
    compressed; JPEG is randomly the first or the last of these. All parameters are drawn for each
    crop. Real-ESRGAN draws the resize factors once for a batch, and mixes batches in a queue of 180
    samples.

    Args:
        margin: HR pixels around a crop, rounded up to a multiple of the scale.
        kernel_size: lowest and highest side of the kernels, both odd.
        shapes: relative frequency of each shape of kernel.
        generalised_beta, plateau_beta: range of the shape's exponent; values below and above 1 are
            equally likely.
        final_sinc: probability of the last sinc filter.
        stages: the stages, one or more.
    """

    def __init__(
        self,
        margin: Annotated[int, Range(0)],
        kernel_size: tuple[int, int],
        shapes: dict[str, float],
        generalised_beta: tuple[Positive, Positive],
        plateau_beta: tuple[Positive, Positive],
        final_sinc: Probability,
        stages: list[Stage],
        scale: int,
    ):
        low, high = kernel_size
        if not 3 <= low <= high or low % 2 == 0 or high % 2 == 0:
            raise UserError(
                f"{KEY}.kernel_size={[low, high]}: expected two odd sizes of at least 3"
            )
        if set(shapes) - SHAPES or not sum(shapes.values()) > 0 or min(shapes.values()) < 0:
            raise UserError(
                f"{KEY}.shapes={shapes}: expected frequencies of {', '.join(sorted(SHAPES))}"
            )
        if not stages:
            raise UserError(f"{KEY}.stages=[]: expected at least one stage")
        for number, stage in enumerate(stages, 1):
            if min(stage.resize) < 0 or not sum(stage.resize) > 0:
                raise UserError(
                    f"{KEY}.stages: stage {number} has resize={list(stage.resize)}: expected "
                    "frequencies of upsampling, downsampling and neither"
                )
            if not stage.factor[0] <= 1 <= stage.factor[1]:
                raise UserError(
                    f"{KEY}.stages: stage {number} has factor={list(stage.factor)}: expected a "
                    "range that contains 1"
                )
        super().__init__(margin, scale)
        self._sizes = range(low, high + 1, 2)
        self._shapes, self._frequencies = list(shapes), np.array(list(shapes.values()))
        self._frequencies /= self._frequencies.sum()
        self._betas = {"generalised": generalised_beta, "plateau": plateau_beta}
        self._final_sinc, self._stages = final_sinc, stages

    def degrade(self, image: np.ndarray, scale: int, rng: np.random.Generator) -> np.ndarray:
        """Return LR (h, w, 3) of an HR image (s h, s w, 3)."""
        height, width = image.shape[:2]
        for stage in self._stages[:-1]:
            image = self._blur_resize_add_noise(image, stage, (height, width), rng)
            image = operations.add_jpeg(image, draw_quality(stage.jpeg, rng))
        stage, lr_size = self._stages[-1], (height // scale, width // scale)
        image = self._blur_resize_add_noise(image, stage, lr_size, rng)
        quality, jpeg_first = draw_quality(stage.jpeg, rng), rng.random() < 0.5
        if jpeg_first:
            image = operations.add_jpeg(image, quality)
        image = operations.resize_randomly(image, *lr_size, INTERPOLATIONS, rng)
        if rng.random() < self._final_sinc:
            size = int(rng.choice(self._sizes))
            image = operations.blur(
                image, operations.sinc_kernel(size, rng.uniform(np.pi / 3, np.pi))
            )
        return image if jpeg_first else operations.add_jpeg(image, quality)

    def _blur_resize_add_noise(
        self, image: np.ndarray, stage: Stage, reference: tuple[int, int], rng: np.random.Generator
    ) -> np.ndarray:
        if rng.random() < stage.blur:
            image = operations.blur(image, self._draw_kernel(stage, rng))
        factor = _draw_factor(stage, rng)
        height, width = (max(1, int(side * factor)) for side in reference)
        image = operations.resize_randomly(image, height, width, INTERPOLATIONS, rng)
        is_gaussian, gray = rng.random() < stage.gaussian, rng.random() < stage.gray
        if is_gaussian:
            return operations.add_gaussian_noise(image, rng.uniform(*stage.noise) / 255, gray, rng)
        return operations.add_poisson_noise(image, rng.uniform(*stage.poisson), gray, rng)

    def _draw_kernel(self, stage: Stage, rng: np.random.Generator) -> np.ndarray:
        size = int(rng.choice(self._sizes))
        if rng.random() < stage.sinc:
            return operations.sinc_kernel(size, rng.uniform(np.pi / (3 if size < 13 else 5), np.pi))
        shape = self._shapes[int(rng.choice(len(self._shapes), p=self._frequencies))]
        family, _, anisotropic = shape.partition("_")
        sigma = rng.uniform(*stage.sigma)
        sigmas = (sigma, rng.uniform(*stage.sigma) if anisotropic else sigma)
        form = operations.quadratic_form(size, sigmas, rng.uniform(-np.pi, np.pi))
        if family in self._betas:
            low, high = self._betas[family]
            form **= rng.uniform(low, 1) if rng.random() < 0.5 else rng.uniform(1, high)
        kernel = 1 / (1 + form) if family == "plateau" else np.exp(-form / 2)
        return kernel / kernel.sum()


def _draw_factor(stage: Stage, rng: np.random.Generator) -> float:
    frequencies = np.array(stage.resize) / sum(stage.resize)
    kind = rng.choice(3, p=frequencies)
    low, high = stage.factor
    return float((rng.uniform(1, high), rng.uniform(low, 1), 1.0)[kind])
