import pytest
import torch
from torch import Tensor, nn

from realsr.deployment.measure import count_gflop
from realsr.networks.rrdb import RRDB


def test_the_rrdb_s_work_is_the_published_number() -> None:
    network = RRDB(4, 64, 23, 32)
    assert count_gflop(network, 128) == pytest.approx(587.427, abs=5e-4)
    assert not next(network.parameters()).is_meta


def test_a_convolution_s_work_by_hand() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 7, 5, padding=2), nn.LeakyReLU(), nn.Conv2d(7, 4, 3, stride=2, padding=1)
    )
    weights_by_pixels = 3 * 7 * 25 * 20**2 + 7 * 4 * 9 * 10**2
    assert count_gflop(network, 20) == pytest.approx(2 * weights_by_pixels / 1e9, rel=1e-12)


class LooksAtValues(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y if float(y.detach().mean()) < 100 else torch.zeros_like(y)


def test_a_network_that_has_to_be_computed_is_counted_once() -> None:
    assert count_gflop(LooksAtValues(), 10) == pytest.approx(2 * 9 * 100 / 1e9, rel=1e-12)
