"""Random generators for each purpose and item, derived from one `seed`.

Results therefore depend neither on the number of workers nor on the order of the items.
"""

import hashlib

import numpy as np
import torch

from realsr.core.file_names import encode_name


def derive_seed(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed for a purpose, e.g. `derive_seed(0, "crops", "DJI_0030")`."""
    text = "/".join(str(name) for name in (seed, *names))
    return int.from_bytes(hashlib.sha256(encode_name(text)).digest()[:8], "big") >> 1


def numpy_generator(seed: int, *names: str | int) -> np.random.Generator:
    """Return a NumPy generator for a purpose, see `derive_seed`."""
    return np.random.default_rng(derive_seed(seed, *names))


def torch_generator(
    seed: int, *names: str | int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Return a torch generator on a device for a purpose, see `derive_seed`."""
    return torch.Generator(device).manual_seed(derive_seed(seed, *names))
