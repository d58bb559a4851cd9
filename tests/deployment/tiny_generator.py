"""A generator so small that all formats of it are made in seconds."""

from functools import cache

import numpy as np
import torch
from torch import Tensor

from realsr.deployment.onnx_graph import Generator
from realsr.networks.rrdb import RRDB
from realsr.weights.origin import Origin

UNSEEN = ((1, 1), (3, 50), (33, 20))  # sizes of pictures that no export is made with

ORIGIN = Origin("MIT", "tiny", "5" * 64, {"steps": 7}, "realsr 0")


@cache
def tiny_generator(scale: int = 4) -> Generator:
    """Return an RRDB whose every parameter shows in its output, which is about 0..1 wide."""
    torch.manual_seed(0)
    network = RRDB(scale, features=8, blocks=1, growth=4).eval()
    for parameter in network.parameters():
        spread = 0.1 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
        parameter.data = spread * torch.randn(parameter.shape)
    return Generator("tiny", "tiny", network.requires_grad_(False), scale, ORIGIN, False)


def random_photos(count: int = 2) -> list[Tensor]:
    return [
        torch.rand(1, 3, 24, 28, generator=torch.Generator().manual_seed(seed))
        for seed in range(count)
    ]


def random_lr(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(1).random((1, 3, *size), np.float32)


def enlarge(network: torch.nn.Module, lr: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return network(torch.from_numpy(lr)).numpy()
