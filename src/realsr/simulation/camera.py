"""A simulated camera: a known blur, every second pixel, and noise. With it the truth is known."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from realsr.imaging import apply_kernel
from realsr.imaging.kernel_shapes import Kernel, aligned_centre
from realsr.kernels.gaussian import gaussian_kernel


@dataclass(frozen=True)
class Camera:
    """What the camera does to a scene.

    kernel: (k, k), aligned for `scale`. noise_levels: lowest and highest standard deviation of a photo's noise at
    mid-gray, in 8-bit levels; it is drawn per photo.
    """

    kernel: Kernel
    scale: int
    noise_levels: tuple[float, float]

    def __call__(self, scene: Tensor, rng: np.random.Generator) -> Tensor:
        """Photograph a scene (3, s*h, s*w) in 0..1: (3, h, w) in 0..1.

        The noise is Gaussian, independent in all samples, its variance linear in the signal as that of photons
        and of a sensor's readout: level^2 * (1/4 + 3/2 x), which is level^2 at x = 1/2.
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
