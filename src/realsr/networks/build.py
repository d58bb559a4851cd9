"""From a configuration to a network. To add one to the package: a file beside this one, and a line here."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from torch import nn

from realsr.core.ranges import Range
from realsr.networks.custom_networks import build_own
from realsr.networks.patchgan import PatchGAN
from realsr.networks.rrdb import RRDB
from realsr.networks.vgg128 import VGG128


@dataclass
class GeneratorConfig:
    """The generator: `rrdb` and its size, or `module.Class` of the user's own and its arguments."""

    name: str = "rrdb"
    features: Annotated[int, Range(1)] = 64
    blocks: Annotated[int, Range(1)] = 23
    growth: Annotated[int, Range(1)] = 32
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass
class DiscriminatorConfig:
    """The discriminator: `patch` or `vgg128`, and its size (`layers` is the patch discriminator's), or one's own."""

    name: str = "patch"
    features: Annotated[int, Range(1)] = 64
    layers: Annotated[int, Range(0)] = 3
    arguments: dict[str, Any] = field(default_factory=dict)


def build_generator(config: GeneratorConfig, scale: int) -> nn.Module:
    """Return a generator (N, 3, h, w) -> (N, 3, s*h, s*w).

    A name with a dot, `module.Class`, is imported and called with `scale` and the config's arguments. Raises ValueError
    for an unknown name or scale, and where a network of the user's own cannot be made.
    """
    if "." in config.name:
        return build_own("generator", config.name, {"scale": scale}, config.arguments)
    _refuse_arguments("generator", config)
    match config.name:
        case "rrdb":
            return RRDB(scale, config.features, config.blocks, config.growth)
    raise ValueError(f"generator.name={config.name}: expected rrdb, or module.Class of your own")


def build_discriminator(config: DiscriminatorConfig) -> nn.Module:
    """Return a discriminator (N, 3, H, W) -> logits; `module.Class` is called with the config's arguments.

    Raises ValueError for an unknown name, and where a network of the user's own cannot be made.
    """
    if "." in config.name:
        return build_own("discriminator", config.name, {}, config.arguments)
    _refuse_arguments("discriminator", config)
    match config.name:
        case "patch":
            return PatchGAN(config.features, config.layers)
        case "vgg128":
            return VGG128(config.features)
    raise ValueError(f"discriminator.name={config.name}: expected patch or vgg128, or module.Class of your own")


def _refuse_arguments(role: str, config: GeneratorConfig | DiscriminatorConfig) -> None:
    if config.arguments:
        raise ValueError(
            f"{role}.arguments={config.arguments}: these are for a network of your own ({role}.name=module.Class); "
            f"{config.name} has keys of its own in {role}"
        )
