"""Generators of other authors: an architecture of spandrel, by its name and arguments."""

import inspect
import warnings
from importlib import import_module
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from realsr.core.components import bind
from realsr.core.errors import UserError, import_extra

SCALES = ("scale", "upscale", "up_scale", "upscale_factor", "upscaling_factor", "sf")
CHANNELS = ("num_in_ch", "num_out_ch", "in_ch", "out_ch", "in_channels", "out_channels", "in_nc")


class SpandrelNetwork(nn.Module):
    """A network of spandrel as a generator; its state dict is that of the network itself.

    An image whose size the network does not take is extended at the right and at the bottom, by
    reflection as far as it goes, then by repetition. The result is cropped. So does spandrel's own
    call.

    Args:
        scale: passed to the constructor's argument of the scale, whatever its name.
        architecture: the network's class in spandrel, in any case: SwinIR, HAT, RealPLKSR.
        arguments: further arguments of the constructor; the defaults of others are spandrel's.

    Raises:
        UserError: without spandrel, for an architecture that it does not have, for arguments that
            the constructor does not have, and if the network does not upscale RGB by the scale.
    """

    def __init__(self, scale: int, architecture: str, arguments: dict[str, Any]) -> None:
        super().__init__()
        self.network, description = _make_network(scale, architecture, arguments)
        self.scale = scale
        self.size_requirements = description.size_requirements
        self.supports_half = description.supports_half
        self.supports_bfloat16 = description.supports_bfloat16
        _prepare(self.network)
        self.to(torch.get_default_device())

    def forward(self, x: Tensor) -> Tensor:
        """Images (N,3,h,w), 0..1 -> (N,3,h*scale,w*scale), about 0..1 but not clamped."""
        height, width = x.shape[-2:]
        # A copy in any case: some networks compute in place on their input, which is the caller's.
        y = self.network(x.clone() if self.size_requirements.none else self._extend(x))
        return y[..., : height * self.scale, : width * self.scale]

    def _extend(self, x: Tensor) -> Tensor:
        # Without a condition on the size, so that an exported network does the same for each.
        requirements = self.size_requirements
        sizes = [
            torch.sym_max(size + -size % requirements.multiple_of, requirements.minimum)
            for size in x.shape[-2:]
        ]
        if requirements.square:
            sizes = [torch.sym_max(*sizes)] * 2
        for axis, size in zip((-2, -1), sizes, strict=True):
            last = x.shape[axis] - 1
            places = last - (torch.arange(size, device=x.device) - last).abs()
            x = x.index_select(axis, places.clamp(min=0))
        return x

    def train(self, mode: bool = True) -> "SpandrelNetwork":
        """Set the mode; for evaluation, merge the convolutions that are trained apart."""
        super().train(mode)
        for module in [] if mode else self.modules():
            if "update_params" in vars(module):
                vars(module)["update_params"]()
        return self

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Return the network's own, so that files have the names of official checkpoints."""
        return self.network.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Load a state dict of the network itself."""
        return self.network.load_state_dict(*args, **kwargs)


def _make_network(
    scale: int, architecture: str, arguments: dict[str, Any]
) -> tuple[nn.Module, Any]:
    """Return a network of an architecture, and spandrel's description of it."""
    reader, factory = _find_architecture(architecture)
    names = inspect.signature(factory).parameters
    constants = {name: scale for name in SCALES if name in names}
    constants |= {name: 3 for name in CHANNELS if name in names}
    values = {**arguments, "name": factory.__name__}
    keywords = bind(factory, "generator.arguments", values, constants)
    # Constructors read values, and the meta device has none.
    with torch.device("cpu"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of functions that torch will change
        try:
            network = factory(**keywords)
            description = reader.load(dict(network.state_dict()))
        except Exception as error:  # each architecture checks its arguments in its own way
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise UserError(
                f"generator.arguments={arguments}: spandrel cannot make {factory.__name__} of it "
                f"({reason[0]}). Its defaults of other arguments may not fit: take those of an "
                "option such as generator=swinir, see docs/train/generators.md"
            ) from error
    facts = description.scale, description.input_channels, description.output_channels
    if facts != (scale, 3, 3):
        raise UserError(
            f"generator.arguments={arguments}: make {factory.__name__} a network of scale "
            f"{facts[0]}, {facts[1]} channels in and {facts[2]} out; expected scale {scale} and 3 "
            f"channels (RGB). Its arguments: {', '.join(names)}"
        )
    return network, description


def _find_architecture(name: str) -> tuple[Any, type[nn.Module]]:
    """Return spandrel's reader of an architecture's files, and the class of its networks."""
    library = import_extra("spandrel", f"generator.architecture={name}:", "spandrel")
    architectures, names = {}, []
    for entry in library.MAIN_REGISTRY.architectures():
        module = import_module(type(entry.architecture).__module__)
        for key in module.__all__:
            item = getattr(module, key)
            is_network = inspect.isclass(item) and issubclass(item, nn.Module)
            if is_network and not set(SCALES).isdisjoint(inspect.signature(item).parameters):
                names.append(key)
                for alias in (key, item.__name__):
                    architectures[alias.lower()] = entry.architecture, item
    if name.lower() not in architectures:
        raise UserError(
            f"generator.architecture={name}: expected one of {', '.join(sorted(names, key=str.lower))}"
        )
    return architectures[name.lower()]


def _prepare(network: nn.Module) -> None:
    """Change what torch.export and autocast cannot deal with.

    Tensors that are plain attributes become buffers. Convolutions that SPAN merges in each forward
    pass of evaluation are merged in float32, and not while a graph is traced.
    """
    for module in network.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, Tensor):
                delattr(module, name)
                module.register_buffer(name, value, persistent=False)
        if hasattr(module, "update_params"):
            vars(module)["update_params"] = MethodType(_merge, module)


def _merge(module: Any) -> None:
    if not (torch.compiler.is_exporting() or torch.jit.is_tracing()):  # type: ignore[attr-defined]
        with torch.autocast(module.sk.weight.device.type, enabled=False):
            type(module).update_params(module)
