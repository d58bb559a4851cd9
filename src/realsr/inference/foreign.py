"""Networks of other authors, which spandrel recognises by the names and shapes of their tensors."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

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
PURPOSES = (
    "SR",
    "Restoration",
)  # in spandrel's words; the latter removes noise, blur or JPEG's traces at scale 1


def load_foreign(
    file: WeightsFile, precision: Precision, automatic: bool
) -> tuple[Callable[[Tensor], Tensor], int, Precision]:
    """Return a file's network as a function, (N,3,h,w) -> (N,3,s*h,s*w) in 0..1, its scale s, and its precision.

    `read_weights` has run no code in the file, and spandrel runs none. Its call pads to the sizes that the network
    takes, and clamps; what is not finite becomes NaN. automatic: float32 where the network is not made for the half
    precision, instead of an error.

    Raises UserError where spandrel is not installed or does not know the network, and where the network does not
    upscale or restore RGB.
    """
    state = select_rrdb(file.state)
    network, weights = _recognise(file, state)
    name, scale = network.architecture.name, network.scale
    # Of an RRDB under ESRGAN's later names spandrel leaves out what it does not know, and loads the rest.
    if prefixes(state) and _count(network.model.state_dict()) < _count(weights):
        raise UserError(
            f"{file.path}: {_difference(state)}. spandrel recognises {name}, but leaves out some of its tensors, so "
            "that results would be wrong: give other weights"
        )
    channels = network.input_channels, network.output_channels
    if network.purpose not in PURPOSES or channels != (3, 3) or not 1 <= scale <= MAX_SCALE:
        raise UserError(
            f"{file.path}: a network for {network.purpose} ({name}, scale {scale}) of {channels[0]} channels in and "
            f"{channels[1]} out; expected one for super-resolution or for restoration at scale 1, of scale 1 to "
            f"{MAX_SCALE}, of 3 channels in and out (RGB)"
        )
    precision = fit_precision(network, f"{file.path}: {name}", precision, automatic)
    network.model.requires_grad_(False)
    network.model.register_forward_hook(_keep_infinite)
    return network.to(precision.device).eval(), scale, precision


def fit_precision(network: Any, subject: str, precision: Precision, automatic: bool) -> Precision:
    """Return a precision that a network of spandrel computes in: float32 instead of the half precision if automatic.

    subject: the network in words, for the UserError where it is not automatic.
    """
    fits = {
        torch.bfloat16: network.supports_bfloat16,
        torch.float16: network.supports_half,
        None: True,
    }
    if fits[precision.half]:
        return precision
    if not automatic:
        raise UserError(f"{subject} cannot be computed in {precision.half}; set precision=fp32")
    return replace(precision, half=None)


def _recognise(file: WeightsFile, state: Mapping[str, Tensor]) -> tuple[Any, Mapping[str, Tensor]]:
    """Return spandrel's network of a state dict, and the tensors that it was made of. Raises UserError."""
    subject, advice = f"{file.path}: {_difference(state)}", describe_other(state)
    try:
        from spandrel import ModelLoader, UnsupportedModelError, canonicalize_state_dict
    except ImportError as error:
        raise UserError(
            f"{subject}. Networks of other authors need spandrel: pip install 'realsr[spandrel]'{advice}"
        ) from error
    cause = None
    for stripped in strip_prefixes(state):
        weights = {
            name: value
            for name, value in stripped.items()
            if not is_counter(value) or name.endswith(COUNTERS)
        }
        try:
            with limited_memory(
                file.path.stat().st_size
            ):  # of the sizes that the tensors give the network
                return ModelLoader(device="cpu").load_from_state_dict(
                    canonicalize_state_dict(weights)
                ), weights
        except UnsupportedModelError as error:
            cause = error
        except (
            Exception
        ) as error:  # each architecture has its own ways to fail on tensors that are not its own
            raise UserError(
                f"{subject}. spandrel takes it for a network that it knows, but cannot load it: download it again, or "
                f"give other weights{advice}"
            ) from error
    raise UserError(f"{subject}. spandrel does not know it either{advice}") from cause


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
