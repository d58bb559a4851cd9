"""From a configuration to a network. To add one: a file beside this one, and a line here."""

from dataclasses import dataclass

from torch import nn

from realsr.networks.patchgan import PatchGAN
from realsr.networks.rrdb import RRDB
from realsr.networks.vgg128 import VGG128


@dataclass
class GeneratorConfig:
    """The generator: `rrdb` and its size."""

    name: str = "rrdb"
    features: int = 64
    blocks: int = 23
    growth: int = 32


@dataclass
class DiscriminatorConfig:
    """The discriminator: `patch` or `vgg128`, and its size (`layers` is the patch discriminator's)."""

    name: str = "patch"
    features: int = 64
    layers: int = 3


def build_generator(config: GeneratorConfig, scale: int) -> nn.Module:
    """Return a generator (N, 3, h, w) -> (N, 3, s*h, s*w). Raises ValueError for an unknown name or scale."""
    match config.name:
        case "rrdb":
            return RRDB(scale, config.features, config.blocks, config.growth)
    raise ValueError(f"generator.name={config.name}: expected rrdb")


def build_discriminator(config: DiscriminatorConfig) -> nn.Module:
    """Return a discriminator (N, 3, H, W) -> logits. Raises ValueError for an unknown name."""
    match config.name:
        case "patch":
            return PatchGAN(config.features, config.layers)
        case "vgg128":
            return VGG128(config.features)
    raise ValueError(f"discriminator.name={config.name}: expected patch or vgg128")
