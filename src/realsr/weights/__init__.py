"""Generator weights: read from untrusted files of any published layout, written as safetensors."""

from realsr.weights.conversion import convert_weights
from realsr.weights.generators import (
    load_generator,
    load_generator_state,
    save_generator,
)

__all__ = ["convert_weights", "load_generator", "load_generator_state", "save_generator"]
