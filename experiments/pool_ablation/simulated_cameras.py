"""The simulated cameras of the ablation, and the online degradation of the arm `true_camera`."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from torch import Tensor

from realsr.data.degradations.degradation import to_images
from realsr.imaging import to_float, to_uint8
from realsr.simulation.camera_model import Camera, anisotropic_kernel

SCALE, SIZE = 2, 21
# Standard deviations and angle of the kernel: pixels of HR, degrees. Noise: levels at mid-gray.
CAMERAS = {
    "mild": Camera(anisotropic_kernel(SIZE, (1.2, 1.2), 0, SCALE), SCALE, (1, 2), noise_width=0.6),
    "wide": Camera(anisotropic_kernel(SIZE, (2.4, 1.4), 30, SCALE), SCALE, (3, 5), noise_width=0.6),
    "sharpened": Camera(
        anisotropic_kernel(SIZE, (1.7, 1.5), 0, SCALE), SCALE, (2, 3), sharpness=0.8, jpeg_quality=85
    ),
    "clean": Camera(anisotropic_kernel(SIZE, (2.0, 1.2), 120, SCALE), SCALE, (0, 0)),
}  # fmt: skip


class SimulatedCamera:
    """Degrades each crop of HR as a simulated camera does.

    label: of the camera in `CAMERAS`.
    """

    reads: Literal["lr", "hr"] = "hr"
    margin = SIZE // 2 + SIZE // 2 % SCALE

    def __init__(self, label: str, scale: int):
        self._camera, self._border = CAMERAS[label], self.margin // scale

    def prepare(
        self, crop: np.ndarray, margin: int, scale: int, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Return the camera's photo of the crop as `lr`. The margin removes the crop's border."""
        photo, border = to_uint8(self._camera(to_float(crop), rng)), margin // scale
        inner = photo[border : photo.shape[0] - border, border : photo.shape[1] - border]
        return {"lr": np.ascontiguousarray(inner)}

    def apply(self, batch: Mapping[str, Tensor]) -> Tensor:
        return to_images(batch["lr"])
