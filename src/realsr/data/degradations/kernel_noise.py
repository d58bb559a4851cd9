"""Kernels and noise of the pool, drawn anew for each crop of HR."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from torch import Tensor
from torch.nn import functional as F

from realsr.data.cache import Images
from realsr.data.degradations.degradation import OnlineDegradation, to_images
from realsr.data.degradations.noise import Match, Noise
from realsr.imaging import resize


class KernelNoise(OnlineDegradation):
    """Degrades HR by a random kernel of the pool and adds noise as `noise` does.

    The pairs' LR is not used: they hold one kernel per photo, which is few if there are few photos.
    The kernel is applied after flips and rotations, so that LR always has the camera's direction of
    blur. Without kernels LR is HR downscaled by bicubic. LR is not rounded to 8 bits.

    match, patches: see `noise`. kernels: the pool's kernels for the scale.
    """

    reads = "hr"

    def __init__(self, match: Match, patches: Images, kernels: Sequence[np.ndarray], scale: int):
        self._noise, self._scale = Noise(match, patches), scale
        self._size = max((side for kernel in kernels for side in kernel.shape), default=0) | 1
        self._kernels = np.zeros((len(kernels), self._size, self._size), np.float32)
        for canvas, kernel in zip(self._kernels, kernels, strict=True):
            top, left = (self._size // 2 - side // 2 for side in kernel.shape)
            canvas[top : top + kernel.shape[0], left : left + kernel.shape[1]] = kernel
        # Bicubic reads 2 LR pixels on either side.
        self.margin = self._size // 2 if kernels else 2 * scale

    def prepare(
        self, crop: np.ndarray, margin: int, scale: int, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Return the crop with its margin as `wide`, a `kernel` if there are any, and noise."""
        size = tuple((side - 2 * margin) // scale for side in crop.shape[:2])
        arrays = {"wide": crop}
        if len(self._kernels):
            arrays["kernel"] = self._kernels[int(rng.integers(len(self._kernels)))]
        inner = crop[margin : crop.shape[0] - margin, margin : crop.shape[1] - margin]
        small = cv2.resize(inner, size[::-1], interpolation=cv2.INTER_AREA)
        noise = self._noise.prepare(small, 0, scale, rng)
        return arrays | {name: array for name, array in noise.items() if name != "lr"}

    def apply(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the crop correlated with the kernel at every s-th pixel, with noise, clamped."""
        wide, scale = to_images(batch["wide"]), self._scale
        if "kernel" in batch:
            channels = wide.shape[0] * 3  # each with the kernel of its image
            kernels = batch["kernel"].repeat_interleave(3, dim=0)[:, None]
            images = wide.reshape(1, channels, *wide.shape[2:])
            lr = F.conv2d(images, kernels, stride=scale, groups=channels)
            lr = lr.reshape(-1, 3, *lr.shape[2:]).clamp(0, 1)
        else:
            lr = resize(wide, factor=1 / scale)[:, :, 2:-2, 2:-2].clamp(0, 1)
        return self._noise.add(lr, batch)
