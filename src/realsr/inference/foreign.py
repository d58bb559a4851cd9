"""Other authors' networks, which spandrel recognises by the names and shapes of their tensors."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from realsr.core.devices import Precision
from realsr.core.errors import UserError, import_extra
from realsr.core.machine import limited_memory
from realsr.core.tensor_files import is_counter, strip_prefixes, tell_reason
from realsr.weights.generators import MAX_SCALE
from realsr.weights.layouts import describe_other, prefixes, rrdb_size, select_rrdb, to_rrdb_names
from realsr.weights.state_files import WeightsFile

COUNTERS = "num_batches_tracked"  # of batch normalisation
# In spandrel's terms; Restoration removes noise, blur or JPEG artefacts at scale 1.
PURPOSES = ("SR", "Restoration")


def load_foreign(
    file: WeightsFile, precision: Precision, automatic: bool
) -> tuple[Callable[[Tensor], Tensor], int, Precision]:
    """Return a file's network as a function, its scale s, and its precision.

    The function maps (N,3,h,w) to (N,3,s*h,s*w), 0..1. It pads the input to sizes that the network
    supports, clamps the result, and turns values that are not finite into NaN. Neither
    `read_weights` nor spandrel runs code in the file.

    automatic: use float32 if the network does not support the half precision, instead of raising an
    error.

    Raises UserError if spandrel is not installed or does not recognise the network, and if the
    network does not upscale or restore RGB.
    """
    state = select_rrdb(file.state)
    network, weights = _recognise(file, state)
    name, scale = network.architecture.name, network.scale
    # spandrel loads an RRDB with ESRGAN's later names without the tensors that it does not know.
    if prefixes(state) and _count(network.model.state_dict()) < _count(weights):
        raise UserError(
            f"{file.path}: {_difference(state)}. spandrel recognises {name}, but ignores some of "
            "its tensors, so results would be wrong: use other weights"
        )
    channels = network.input_channels, network.output_channels
    if network.purpose not in PURPOSES or channels != (3, 3) or not 1 <= scale <= MAX_SCALE:
        raise UserError(
            f"{file.path}: a network for {network.purpose} ({name}, scale {scale}) with "
            f"{channels[0]} input and {channels[1]} output channels; expected a network for "
            f"super-resolution or restoration with scale 1 to {MAX_SCALE} and 3 input and output "
            "channels (RGB)"
        )
    precision = fit_precision(network, f"{file.path}: {name}", precision, automatic)
    network.model.requires_grad_(False)
    network.model.register_forward_hook(_mark_infinity)
    return network.to(precision.device).eval(), scale, precision


def fit_precision(network: Any, subject: str, precision: Precision, automatic: bool) -> Precision:
    """Return a precision that a network of spandrel supports; automatic: float32 instead of half.

    subject: the network in words, for the UserError if it is not automatic.
    """
    halves = {torch.bfloat16: network.supports_bfloat16, torch.float16: network.supports_half}
    if precision.half is None or halves[precision.half]:
        return precision
    if not automatic:
        raise UserError(f"{subject} does not support {precision.half}; set precision=fp32")
    return replace(precision, half=None)


def _recognise(file: WeightsFile, state: Mapping[str, Tensor]) -> tuple[Any, Mapping[str, Tensor]]:
    """Return spandrel's network of a state dict, and the tensors loaded. Raises UserError."""
    subject, advice = f"{file.path}: {_difference(state)}", describe_other(state)
    purpose = f"{subject}{advice}. A network of another author"
    spandrel = import_extra("spandrel", purpose, "spandrel")
    cause = None
    for tensors in strip_prefixes(state):
        weights = {
            name: value
            for name, value in tensors.items()
            if not is_counter(value) or name.endswith(COUNTERS)
        }
        try:
            # spandrel sets sizes of the network from the tensors.
            with limited_memory(file.path.stat().st_size):
                names = spandrel.canonicalize_state_dict(weights)
                return spandrel.ModelLoader(device="cpu").load_from_state_dict(names), weights
        except spandrel.UnsupportedModelError as error:
            cause = error
        except Exception as error:  # architectures raise many types for unsuitable tensors
            raise UserError(
                f"{subject}. spandrel recognises a network, but cannot load it: download it again, "
                f"or use other weights{advice}"
            ) from error
    raise UserError(f"{subject}. spandrel does not recognise it either{advice}") from cause


def _mark_infinity(network: object, inputs: object, result: object) -> object:
    """Replace infinity by NaN, which is preserved when spandrel clamps to 0..1."""
    return torch.where(result.isinf(), torch.nan, result) if isinstance(result, Tensor) else result


def _count(state: Mapping[str, Tensor]) -> int:
    return sum(value.numel() for value in state.values() if not is_counter(value))


def _difference(state: Mapping[str, Tensor]) -> str:
    """Describe how the tensors differ from those of an RRDB."""
    try:
        rrdb_size(to_rrdb_names(state))
    except ValueError as error:
        return tell_reason(error)
    return "an RRDB generator"
