"""No online degradation."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from torch import Tensor

from realsr.data.degradations.degradation import to_images


class Identity:
    """Returns the pair's LR unchanged."""

    reads: Literal["lr", "hr"] = "lr"
    margin = 0

    def prepare(
        self, crop: np.ndarray, margin: int, scale: int, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Return the crop as `lr`."""
        return {"lr": crop}

    def apply(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the crops as float32."""
        return to_images(batch["lr"])
