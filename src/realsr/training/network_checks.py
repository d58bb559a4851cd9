"""Whether networks, the user's own above all, take and give what a training hands them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from realsr.networks import DiscriminatorConfig, GeneratorConfig, build_discriminator, build_generator
from realsr.networks.custom_networks import tell_error


def check_networks(
    generator: GeneratorConfig, discriminator: DiscriminatorConfig | None, scale: int, crop: int, batch: int
) -> nn.Module:
    """Build the networks, run each once and look at the shapes; no chance is used up. Return the generator, to look at.

    Raises ValueError or RuntimeError for networks that cannot be made, that do not take the crops, or give something
    else than images `scale` times larger and logits by image.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        with _device(generator.name):
            network = build_generator(generator, scale)
            if not any(parameter.requires_grad for parameter in network.parameters()):
                raise ValueError(f"generator {generator.name}: has no parameters to train")
            images = torch.zeros(1, 3, crop // scale, crop // scale)
            check_generator_output(generator.name, _run(generator.name, network, images), images, scale)
        if discriminator is not None:
            with _device(discriminator.name):
                # Two stand for any number of images: what batch norm refuses is one value.
                images = torch.zeros(min(batch, 2), 3, crop, crop)
                critic = build_discriminator(discriminator)
                check_logits(discriminator.name, _run(discriminator.name, critic, images), len(images))
    return network


def _run(name: str, network: nn.Module, images: Tensor) -> object:
    try:
        return network(images)
    except Exception as error:
        if "." not in name:
            raise
        raise ValueError(f"{name}: given images of {_size(images.shape)} it failed: {tell_error(error)}") from error


def check_generator_output(name: str, output: object, images: Tensor, scale: int) -> None:
    """Raise ValueError for an output that is not as many images, `scale` times larger than those given."""
    count, channels, height, width = images.shape
    expected = (count, channels, height * scale, width * scale)
    if not isinstance(output, Tensor) or tuple(output.shape) != expected:
        raise ValueError(
            f"generator {name}: given images of {_size(images.shape)}, it gave {_describe(output)}; "
            f"at scale={scale} expected {_size(expected)} (N x 3 x height x width)"
        )


def check_logits(name: str, output: object, count: int) -> None:
    """Raise ValueError for an output that is no floating-point tensor of logits, one or more for each image."""
    if not isinstance(output, Tensor) or not output.is_floating_point() or output.ndim < 1:
        raise ValueError(f"discriminator {name}: gave {_describe(output)}; expected a tensor of logits, image by image")
    if output.shape[0] != count or not output.numel():
        raise ValueError(
            f"discriminator {name}: given {count} images, it gave {_describe(output)}; expected logits for each image, "
            f"({count}, …)"
        )


def _device(name: str) -> torch.device:
    # Shapes only, for those known to work so; other code may look at values while it is built.
    return torch.device("cpu" if "." in name else "meta")


def _describe(output: object) -> str:
    if isinstance(output, Tensor):
        return f"a tensor of {_size(output.shape) or 'no dimensions'} ({str(output.dtype).removeprefix('torch.')})"
    return f"a {type(output).__name__}"


def _size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
