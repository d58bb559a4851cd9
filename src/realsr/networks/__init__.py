"""The networks: one readable file each, without knowledge of data, training or configuration."""

from realsr.core.errors import WeightsError
from realsr.networks.build import DiscriminatorConfig, GeneratorConfig, build_discriminator, build_generator
from realsr.networks.patchgan import PatchGAN
from realsr.networks.rrdb import RRDB
from realsr.networks.vgg128 import VGG128
from realsr.networks.vgg_features import VGGFeatures

__all__ = [
    "RRDB",
    "VGG128",
    "DiscriminatorConfig",
    "GeneratorConfig",
    "PatchGAN",
    "VGGFeatures",
    "WeightsError",
    "build_discriminator",
    "build_generator",
]
