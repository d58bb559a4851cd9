"""Operations of blind degradations: blur kernels, blur, resizing, noise and JPEG.

Images are (h, w, 3) float32 in 0..1. Random numbers come only from the generator argument.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated

import cv2
import numpy as np
from scipy import special

from realsr.core.ranges import Range
from realsr.data.degradations.degradation import OnlineDegradation
from realsr.data.degradations.noise_jpeg import compress

Probability = Annotated[float, Range(0, 1)]
GRAY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


class BlindDegradation(OnlineDegradation):
    """An online degradation that computes LR from HR alone, in 8 bits, in the worker.

    margin: HR pixels around a crop, rounded up to a multiple of the scale.
    """

    reads = "hr"

    def __init__(self, margin: int, scale: int):
        self.margin = -(-margin // scale) * scale

    @abstractmethod
    def degrade(self, image: np.ndarray, scale: int, rng: np.random.Generator) -> np.ndarray:
        """Return LR (h, w, 3) of an HR image (s h, s w, 3)."""

    def prepare(
        self, crop: np.ndarray, margin: int, scale: int, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Return `lr`, the degraded crop without its margin, uint8.

        The degraded region starts anywhere in the first half of the margin, so that the offset of
        the JPEG grid relative to the crop is random.
        """
        room = margin // scale
        top, left = (int(offset) for offset in rng.integers(room // 2 + 1, size=2))
        region = crop[top * scale :, left * scale :].astype(np.float32) / 255
        lr = to_uint8(self.degrade(region, scale, rng))
        rows = slice(room - top, lr.shape[0] - room)
        columns = slice(room - left, lr.shape[1] - room)
        return {"lr": np.ascontiguousarray(lr[rows, columns])}


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Return an image as uint8: clamped, then rounded half to even."""
    return np.rint(image.clip(0, 1) * 255).astype(np.uint8)


def blur(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Correlate an image with an odd-sized kernel (k, k); mirror the border at the edge pixel."""
    return cv2.filter2D(image, -1, kernel.astype(np.float32), borderType=cv2.BORDER_REFLECT_101)


def quadratic_form(
    size: int, sigmas: tuple[float, float], angle: float = 0, shift: float = 0
) -> np.ndarray:
    """Return x^T C^-1 x (size, size) for the offsets x from the centre of a kernel.

    C is the covariance with standard deviations `sigmas` in pixels, rotated by `angle` in radians.
    The centre is `shift` pixels below and right of the middle.
    """
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2 - shift
    along = np.cos(angle) * columns + np.sin(angle) * rows
    across = np.cos(angle) * rows - np.sin(angle) * columns
    return (along / sigmas[0]) ** 2 + (across / sigmas[1]) ** 2


def sinc_kernel(size: int, cutoff: float) -> np.ndarray:
    """Return the circular low-pass filter (size, size), which sums to 1 (Real-ESRGAN, eq. 6).

    cutoff: in radians per pixel, up to pi.
    """
    radius = np.hypot(*(np.mgrid[:size, :size] - (size - 1) / 2))
    with np.errstate(invalid="ignore"):
        kernel = cutoff * special.j1(cutoff * radius) / (2 * np.pi * radius)
    kernel[radius == 0] = cutoff**2 / (4 * np.pi)
    return kernel / kernel.sum()


def resize_randomly(
    image: np.ndarray,
    height: int,
    width: int,
    interpolations: Sequence[int],
    rng: np.random.Generator,
) -> np.ndarray:
    """Resize by a random interpolation of OpenCV's; only INTER_AREA antialiases a downscaling."""
    interpolation = interpolations[int(rng.integers(len(interpolations)))]
    if image.shape[:2] == (height, width):
        return image
    return cv2.resize(image, (width, height), interpolation=interpolation)


def add_gaussian_noise(
    image: np.ndarray, sigma: float, gray: bool, rng: np.random.Generator
) -> np.ndarray:
    """Add Gaussian noise and clamp. sigma: in 0..1. gray: the same noise in all channels."""
    shape = (*image.shape[:2], 1 if gray else 3)
    return (image + rng.standard_normal(shape, np.float32) * np.float32(sigma)).clip(0, 1)


def add_poisson_noise(
    image: np.ndarray, gain: float, gray: bool, rng: np.random.Generator
) -> np.ndarray:
    """Add `gain` times the Poisson noise of an image and clamp, as Real-ESRGAN does.

    The mean count at full brightness is the number of distinct 8-bit values of the image, rounded
    up to a power of 2.

    gray: whether all channels get the noise of the luminance.
    """
    levels = to_uint8((image @ GRAY)[..., None] if gray else image)
    count = 2.0 ** np.ceil(np.log2(len(np.unique(levels))))
    clean = levels / 255
    noise = rng.poisson(clean * count) / count - clean
    return (image + gain * noise.astype(np.float32)).clip(0, 1)


def add_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Round an image to 8 bits, compress it by JPEG and decode it."""
    return compress(to_uint8(image), quality).astype(np.float32) / 255
