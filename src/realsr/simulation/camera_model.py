"""A simulated camera of known blur, noise and processing, and photographs as its scenes."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from realsr.core.errors import UserError
from realsr.data.degradations.noise_jpeg import compress
from realsr.imaging import apply_kernel, to_float, to_uint8
from realsr.imaging.kernel_shapes import Kernel, aligned_centre
from realsr.kernels.gaussian import gaussian_kernel


@dataclass(frozen=True)
class Camera:
    """Blurs, downscales, adds noise, sharpens and compresses.

    kernel: (k, k), aligned for `scale`. noise_levels: lowest and highest standard deviation of the
    noise at mid-gray, in 8-bit levels; each photo's is drawn uniformly between them.
    noise_width: standard deviation of the Gaussian filter that correlates the noise, in pixels of
    the photo; 0: independent samples. sharpness: amount of the unsharp mask, whose Gaussian has a
    standard deviation of 1 pixel. jpeg_quality: None without compression.
    """

    kernel: Kernel
    scale: int
    noise_levels: tuple[float, float]
    noise_width: float = 0.0
    sharpness: float = 0.0
    jpeg_quality: int | None = None

    def __call__(self, scene: Tensor, rng: np.random.Generator) -> Tensor:
        """Return a photo (3, h, w) of a scene (3, s*h, s*w), both 0..1.

        The noise is Gaussian. Its variance is linear in the signal x, like that of shot and read
        noise: level^2 * (1/4 + 3/2 x).
        """
        photo = apply_kernel(scene, self.kernel, self.scale).clamp(0, 1)
        level = rng.uniform(*self.noise_levels) / 255
        noise = rng.standard_normal(photo.shape, dtype=np.float32)
        if self.noise_width:
            noise = _blur(noise, self.noise_width)
            noise /= noise.std()
        photo = photo + level * (0.25 + 1.5 * photo).sqrt() * torch.from_numpy(noise)
        if self.sharpness:
            photo += self.sharpness * (photo - torch.from_numpy(_blur(photo.numpy(), 1.0)))
        photo = photo.clamp(0, 1)
        if self.jpeg_quality is None:
            return photo
        return to_float(compress(to_uint8(photo), self.jpeg_quality))


def _blur(image: np.ndarray, width: float) -> np.ndarray:
    return ndimage.gaussian_filter(image, (0, width, width), mode="reflect")


def anisotropic_kernel(size: int, sigmas: tuple[float, float], angle: float, scale: int) -> Kernel:
    """Return an aligned Gaussian kernel (size, size).

    sigmas: standard deviations along its axes; angle: of the first axis, in degrees.
    """
    radians = math.radians(angle)
    first = np.array([math.sin(radians), math.cos(radians)])  # row, column
    second = np.array([math.cos(radians), -math.sin(radians)])
    covariance = sigmas[0] ** 2 * np.outer(first, first) + sigmas[1] ** 2 * np.outer(second, second)
    return gaussian_kernel(covariance, size, aligned_centre(size, scale))


def load_photograph(name: str, purpose: str, extra: str) -> np.ndarray:
    """Return one of scikit-image's photographs, RGB (H, W, 3) uint8.

    purpose, extra: for the message: what needs scikit-image, and the extra that installs it.
    Raises UserError if scikit-image is not installed.
    """
    try:
        from skimage import data
    except ImportError as error:
        raise UserError(f"{purpose} needs {error.name}: pip install 'realsr[{extra}]'") from error
    image = getattr(data, name)()
    image = image[0] if isinstance(image, tuple) else image
    image = np.stack([image] * 3, axis=2) if image.ndim == 2 else image[..., :3]
    return np.ascontiguousarray(image)
