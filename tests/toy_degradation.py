"""Online degradations of a user's own, by names such as `toy_degradation.Drift`."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from realsr.data.cache import Images
from realsr.data.degradations.degradation import OnlineDegradation, to_images
from realsr.data.degradations.noise import Noise
from realsr.data.pool_files import CameraNoise, JpegTables


class Drift:
    """LR is every s-th pixel of HR, shifted by up to `margin` pixels, and as much brighter or darker as drawn."""

    reads: Literal["lr", "hr"] = "hr"

    def __init__(self, margin: int, gain: float, scale: int):
        self.margin, self._gain, self._scale = margin, gain, scale

    def prepare(
        self, crop: np.ndarray, margin: int, scale: int, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        gain = np.array([1 + self._gain * rng.uniform(-1, 1)], np.float32)
        return {
            "shift": rng.integers(0, 2 * margin + 1, 2).astype(np.uint8),
            "around": crop,
            "gain": gain,
        }

    def apply(self, batch: Mapping[str, Tensor]) -> Tensor:
        height, width = batch["hr"].shape[1:3]
        crops = []
        for around, (top, left) in zip(batch["around"], batch["shift"].tolist(), strict=True):
            crops.append(
                around[top : top + height : self._scale, left : left + width : self._scale]
            )
        return (to_images(torch.stack(crops)) * batch["gain"][:, :, None, None]).clamp(0, 1)


class Grain(Noise):
    """Adds the noise of the patches, as its own component."""

    def __init__(self, patches: Images):
        super().__init__("random", patches)


class Blocks(OnlineDegradation):
    """Reads JPEG tables whatever its values are."""

    def __init__(self, jpeg_tables: Sequence[JpegTables]):
        self.tables = jpeg_tables

    def prepare(
        self, crop: np.ndarray, margin: int, scale: int, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        return {"lr": crop}


class Mixture(OnlineDegradation):
    """Reads noise patches beside the noise model."""

    def __init__(self, patches: Images, camera_noise: CameraNoise | None):
        self.patches, self.noise = patches, camera_noise

    def prepare(
        self, crop: np.ndarray, margin: int, scale: int, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        return {"lr": crop}
