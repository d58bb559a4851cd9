"""What a state dict is of, by the names and shapes of its tensors."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

GENERATOR = "Give a generator's weights"


def is_counter(value: object) -> bool:
    """Tell whether a tensor is a count and no weight: a single whole number or truth value.

    Such are `n_averaged`, `num_batches_tracked` and `step`.
    """
    return isinstance(value, Tensor) and value.ndim == 0 and not value.is_floating_point() and not value.is_complex()


def strip_prefixes(state: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Yield a state dict, then again without the first word that all its names share (`module.`, `_orig_mod.`), etc.

    Counters may have other names.
    """
    state = dict(state)
    yield state
    while True:
        words = {
            name.partition(".")[0] if "." in name else "" for name, value in state.items() if not is_counter(value)
        }
        if len(words) != 1 or "" in words:
            return
        prefix = f"{words.pop()}."
        state = {name.removeprefix(prefix): value for name, value in state.items()}
        yield state


def describe_tensors(state: Mapping[Any, object]) -> str:
    """Return what tensors look like and what to do, as a sentence for a message; empty where that cannot be told."""
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    layers = [value.shape for value in tensors.values() if value.ndim >= 2]
    if any("lora_" in name or ".lora" in name for name in tensors):
        return "It looks like a LoRA, which holds changes to another network. Give the weights of a whole network"
    if any(name.lower().endswith(("rdb1.conv1.weight", "rdb1.conv1.0.weight")) for name in tensors):
        return "It looks like an RRDB generator"
    reads_rgb = any(len(shape) == 4 and shape[1] in (3, 6) for shape in layers)
    if reads_rgb and any(shape[0] == 1 for shape in layers) and not any(shape[0] == 3 for shape in layers):
        return f"It looks like a discriminator, which gives one value for an image. {GENERATOR} (netG, not netD)"
    if reads_rgb and (classes := [shape[0] for shape in layers if len(shape) == 2]):
        return f"It looks like a classifier of {classes[-1]} classes (as VGG or ResNet). {GENERATOR}"
    return ""
