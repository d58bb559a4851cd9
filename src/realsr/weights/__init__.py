"""Generator weights: in from files that are not trusted and in any published layout, out as safetensors."""

from realsr.weights.generators import load_generator, load_generator_state, save_generator

__all__ = ["load_generator", "load_generator_state", "save_generator"]
