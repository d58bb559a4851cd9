"""Generator weights: in from files that are not trusted and in any published layout, out as safetensors and .pth."""

from realsr.weights.generators import (
    convert_weights,
    load_generator,
    load_generator_state,
    save_generator,
)

__all__ = ["convert_weights", "load_generator", "load_generator_state", "save_generator"]
