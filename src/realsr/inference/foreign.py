"""Networks of other authors, which spandrel recognises by the names and shapes of their tensors."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from realsr.core.devices import Precision
from realsr.core.errors import UserError
from realsr.core.memory import limited_memory
from realsr.core.tensor_files import is_counter, strip_prefixes, tell_reason
from realsr.weights.generators import MAX_SCALE
from realsr.weights.layouts import describe_other, prefixes, rrdb_size, select_rrdb, to_rrdb_names
from realsr.weights.state_files import WeightsFile

COUNTERS = "num_batches_tracked"  # those that batch normalisation has

PURPOSES = ("SR", "Restoration")  # in spandrel's words; the latter removes noise, blur or JPEG's traces at scale 1


def load_foreign(
    file: WeightsFile, precision: Precision, automatic: bool
) -> tuple[Callable[[Tensor], Tensor], int, Precision]:
    """Return a file's network as a function, (N,3,h,w) -> (N,3,s*h,s*w) in 0..1, its scale s, and its precision.

    `read_weights` has run no code in the file, and spandrel runs none. Its call meets the network's demands
    on the size (by padding) and clamps; what is not finite becomes NaN. automatic: float32 where the network is not
    made for the half precision, instead of an error.

    Raises UserError where spandrel is not installed or does not know the network, and where the network does
    something else than enlarge or restore RGB.
    """
    path, state = file.path, select_rrdb(file.state)
    try:
        from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError, canonicalize_state_dict
    except ImportError as error:
        raise UserError(
            f"{path}: {_difference(state)}. Networks of other authors need spandrel: set it up by pip install "
            f"'realsr[spandrel]'{describe_other(state)}"
        ) from error
    found, cause = None, None
    for stripped in strip_prefixes(state):
        weights = {name: value for name, value in stripped.items() if not is_counter(value) or name.endswith(COUNTERS)}
        try:
            with limited_memory(path.stat().st_size):  # of the sizes that the tensors give the network
                found = ModelLoader(device="cpu").load_from_state_dict(canonicalize_state_dict(weights))
            break
        except UnsupportedModelError as error:
            cause = error
        except Exception as error:  # each architecture has its own ways to fail on tensors that are not its own
            raise UserError(
                f"{path}: {_difference(state)}. spandrel takes it for a network that it knows, but cannot load it: "
                f"download it again, or give other weights{describe_other(state)}"
            ) from error
    if found is None:
        raise UserError(
            f"{path}: {_difference(state)}. spandrel does not know it either{describe_other(state)}"
        ) from cause
    name = found.architecture.name
    # Of an RRDB under ESRGAN's later names spandrel leaves out what it does not know, and loads the rest.
    if prefixes(state) and _count(found.model.state_dict()) < _count(weights):
        raise UserError(
            f"{path}: {_difference(state)}. spandrel takes it for {name}, but leaves out some of its tensors, so that "
            "results would be wrong: give other weights"
        )
    if not isinstance(found, ImageModelDescriptor) or found.purpose not in PURPOSES:
        purpose = getattr(found, "purpose", "something else")
        raise UserError(
            f"{path}: a network for {purpose} ({name}, scale {found.scale}); expected one for super-resolution or for "
            "restoration at scale 1"
        )
    if (found.input_channels, found.output_channels) != (3, 3):
        raise UserError(
            f"{path}: a network ({name}) of {found.input_channels} channels in and {found.output_channels} out; "
            "expected 3 and 3 (RGB)"
        )
    fits = {torch.bfloat16: found.supports_bfloat16, torch.float16: found.supports_half, None: True}
    if not fits[precision.half]:
        if not automatic:
            raise UserError(f"{path}: {name} cannot be computed in {precision.half}; say precision=fp32")
        precision = replace(precision, half=None)
    if not 1 <= found.scale <= MAX_SCALE:
        raise UserError(f"{path}: a network ({name}) of scale {found.scale}; expected 1 to {MAX_SCALE}")
    found.model.requires_grad_(False)
    found.model.register_forward_hook(_keep_infinite)
    return found.to(precision.device).eval(), found.scale, precision


def _keep_infinite(network: object, inputs: object, result: object) -> object:
    """Turn infinity into NaN, which spandrel's clamping to 0..1 does not hide."""
    return torch.where(result.isinf(), torch.nan, result) if isinstance(result, Tensor) else result


def _count(state: Mapping[str, Tensor]) -> int:
    return sum(value.numel() for value in state.values() if not is_counter(value))


def _difference(state: Mapping[str, Tensor]) -> str:
    """Where the tensors differ from those of an RRDB."""
    try:
        rrdb_size(to_rrdb_names(state))
    except ValueError as error:
        return tell_reason(error)
    return "an RRDB generator"
