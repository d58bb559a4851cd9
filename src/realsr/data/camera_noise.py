"""The noise of a camera: its level by brightness, its correlation, and its variation over photos."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from realsr.core.errors import UserError
from realsr.core.files import parse_json, write_bytes

NOISE_MODEL = "noise_model.json"  # in the noise pool's folder


@dataclass(frozen=True)
class CameraNoise:
    """Gaussian noise whose level depends on brightness, with correlated pixels and channels.

    deviations: (3, K), standard deviation per channel at K levels of this channel, evenly spaced
        from 0 to 1; linear between them. Image range 0..1.
    filter: (3, 3, k, k), output and input channel: noise of unit variance is white noise
        correlated with it; k is odd.
    gains: (photos,), factor on the deviations of each photo, e.g. for its ISO speed.
    """

    deviations: np.ndarray
    filter: np.ndarray
    gains: np.ndarray

    def level(self, brightness: np.ndarray) -> np.ndarray:
        """Return the standard deviations (3, …) at a brightness in 0..1, at a gain of 1."""
        nodes = np.linspace(0, 1, self.deviations.shape[1])
        return np.stack([np.interp(brightness, nodes, channel) for channel in self.deviations])


def write_noise_model(path: Path, noise: CameraNoise) -> None:
    """Write a noise model as JSON, atomically."""
    values = {name: np.round(array, 8).tolist() for name, array in asdict(noise).items()}
    write_bytes(path, json.dumps(values).encode())


def read_noise_model(path: Path) -> CameraNoise:
    """Read a noise model. Raises UserError if the file is not one."""
    try:
        content = parse_json(path.read_bytes())
        noise = CameraNoise(
            *(np.array(content[name], np.float32) for name in CameraNoise.__dataclass_fields__)
        )
        side = noise.filter.shape[-1]
        shapes = (3, noise.deviations.shape[-1]), (3, 3, side, side), (len(noise.gains),)
        arrays = noise.deviations, noise.filter, noise.gains
        if [array.shape for array in arrays] != list(shapes):
            raise ValueError("its arrays have other shapes")
        if side % 2 == 0 or shapes[0][1] < 2 or not shapes[2][0]:
            raise ValueError("its filter is even, or it has no levels or gains")
        if not all(np.isfinite(array).all() for array in arrays) or noise.deviations.min() < 0:
            raise ValueError("it has values that are not finite, or negative deviations")
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(
            f"{path}: not a noise model ({error}). Make it with: python -m realsr.collect_noise "
            "+track=<track> online_degradation=noise_model data.source=FOLDER work_dir=FOLDER"
        ) from error
    return noise
