"""Noise sampled from a model of the camera's noise, which is fitted to all source photos."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from realsr.data.degradations.degradation import OnlineDegradation, to_images
from realsr.data.pool_files import CameraNoise


class NoiseModel(OnlineDegradation):
    """Adds Gaussian noise with the level, correlation and variation of the camera's noise to LR.

    LR + g d(LR) (A * w): w is white noise, A a filter of 3x3 channels, d the standard deviation of
    each channel as a function of its brightness, and g the gain of a random source photo.

    camera_noise: the pool's noise model; None leaves LR unchanged.
    """

    def __init__(self, camera_noise: CameraNoise | None):
        self._noise = camera_noise

    def prepare(
        self, crop: np.ndarray, margin: int, scale: int, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Return the crop as `lr` and, with a model, `white` noise around it and a `gain`."""
        if self._noise is None:
            return {"lr": crop}
        border = self._noise.filter.shape[-1] - 1
        shape = 3, crop.shape[0] + border, crop.shape[1] + border
        gain = self._noise.gains[rng.integers(len(self._noise.gains))]
        white = rng.standard_normal(shape, dtype=np.float32)
        return {"lr": crop, "white": white, "gain": np.array([gain], np.float32)}

    def apply(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return `lr` with noise, clamped, not rounded."""
        lr = to_images(batch["lr"])
        if self._noise is None:
            return lr
        kernels, deviations = (
            torch.from_numpy(array).to(lr.device, torch.float32)
            for array in (self._noise.filter, self._noise.deviations)
        )
        noise = F.conv2d(batch["white"], kernels) * batch["gain"][:, :, None, None]
        return lr.add_(interpolate(deviations, lr) * noise).clamp_(0, 1)


def interpolate(nodes: Tensor, images: Tensor) -> Tensor:
    """Evaluate a piecewise linear function of each channel at images (N, C, h, w) in 0..1.

    nodes: (C, K), the values at K positions evenly spaced from 0 to 1.
    """
    last = nodes.shape[1] - 1
    position = images * last
    below = position.floor().clamp(0, last - 1)
    channel = torch.arange(len(nodes), device=images.device)[:, None, None]
    index = below.long()
    first, second = nodes[channel, index], nodes[channel, index + 1]
    return first + (position - below) * (second - first)
