"""A simulated camera of known blur and noise, and photographs to use it on."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from realsr.core.errors import UserError
from realsr.imaging import apply_kernel
from realsr.imaging.kernel_shapes import Kernel, aligned_centre
from realsr.kernels.gaussian import gaussian_kernel


@dataclass(frozen=True)
class Camera:
    """Blurs, downscales and adds noise.

    kernel: (k, k), aligned for `scale`. noise_levels: lowest and highest standard deviation of a photo's noise at
    mid-gray, in 8-bit levels; it is drawn per photo.
    """

    kernel: Kernel
    scale: int
    noise_levels: tuple[float, float]

    def __call__(self, scene: Tensor, rng: np.random.Generator) -> Tensor:
        """Photograph a scene (3, s*h, s*w) in 0..1: (3, h, w) in 0..1.

        The noise is Gaussian, independent in all samples, its variance linear in the signal as that of photons
        and readout: level^2 * (1/4 + 3/2 x).
        """
        photo = apply_kernel(scene, self.kernel, self.scale).clamp(0, 1)
        level = rng.uniform(*self.noise_levels) / 255
        noise = torch.from_numpy(rng.standard_normal(photo.shape, dtype=np.float32))
        return (photo + level * (0.25 + 1.5 * photo).sqrt() * noise).clamp(0, 1)


def anisotropic_kernel(size: int, sigmas: tuple[float, float], angle: float, scale: int) -> Kernel:
    """Return an aligned Gaussian kernel (size, size): standard deviations along its axes, turned by degrees."""
    turn = math.radians(angle)
    along = np.array([math.sin(turn), math.cos(turn)])  # row, column
    across = np.array([math.cos(turn), -math.sin(turn)])
    covariance = sigmas[0] ** 2 * np.outer(along, along) + sigmas[1] ** 2 * np.outer(across, across)
    return gaussian_kernel(covariance, size, aligned_centre(size, scale))


def load_photograph(name: str, needed_by: str, extra: str) -> np.ndarray:
    """Return one of scikit-image's photographs, (H, W, 3) uint8. Raises UserError without scikit-image.

    needed_by, extra: for the message: what needs it, and the extra of this package that installs it.
    """
    try:
        from skimage import data
    except ImportError as error:
        raise UserError(f"{needed_by} needs {error.name}: pip install 'realsr[{extra}]'") from error
    image = getattr(data, name)()
    image = image[0] if isinstance(image, tuple) else image
    return np.ascontiguousarray(
        np.stack([image] * 3, axis=2) if image.ndim == 2 else image[..., :3]
    )
