"""Networks, one file each, independent of data, training and configuration, and their construction."""

from typing import Any

from torch import nn

from realsr.core.components import Values, build_component
from realsr.core.errors import UserError


def build_generator(values: Values, scale: int) -> nn.Module:
    """Return a generator (N,3,h,w) -> (N,3,s*h,s*w). Raises UserError as `build_component`.

    values: a file of this package, or the user's own `module.Class`, with its arguments.
    """
    return _build("generator", values, scale=scale)


def build_discriminator(values: Values) -> nn.Module:
    """Return a discriminator (N,3,H,W) -> logits, as `build_generator`."""
    return _build("discriminator", values)


def _build(role: str, values: Values, **arguments: Any) -> nn.Module:
    network = build_component("realsr.networks", role, values, **arguments)
    if not isinstance(network, nn.Module):
        raise UserError(
            f"{role}.name={values['name']}: it returned a {type(network).__name__}; expected a "
            "torch.nn.Module"
        )
    return network
