from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from realsr.networks import build_generator

MakeNetwork = Callable[..., nn.Module]


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """All tests here."""


@pytest.fixture
def make_network() -> MakeNetwork:
    """An RRDB whose every parameter shows in its output; keywords are its size."""

    def make(scale: int = 4, **size: int) -> nn.Module:
        torch.manual_seed(0)
        network = build_generator(
            {
                "name": "rrdb",
                "features": 6,
                "blocks": 2,
                "growth": 4,
                **size,
            },
            scale,
        )
        for parameter in network.parameters():
            parameter.data = 0.2 * torch.randn(parameter.shape)
        return network.eval()

    return make


@pytest.fixture
def same_output() -> Callable[[nn.Module, nn.Module], bool]:
    @torch.no_grad()
    def compare(one: nn.Module, other: nn.Module) -> bool:
        x: Tensor = torch.rand(1, 3, 5, 7)
        return torch.equal(one(x), other(x))

    return compare
