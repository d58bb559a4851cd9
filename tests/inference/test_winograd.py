from collections.abc import Iterator

import pytest
import torch
from small_rrdb import make_rrdb

from realsr.inference.fast_rrdb import FastRRDB

pytest.importorskip("numba", reason="numba is not installed: Winograd's form is not tested")
from realsr.inference.winograd import WinogradTrunk, suits


@pytest.fixture
def threads() -> Iterator[None]:
    number = torch.get_num_threads()
    yield
    torch.set_num_threads(number)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 4, 4), (1, 1, 30), (2, 7, 5), (3, 33, 18)])
@pytest.mark.usefixtures("one_thread")
@torch.no_grad()
def test_it_is_the_trunk(shape: tuple[int, int, int]) -> None:
    network = make_rrdb(4, 64, 2, 32)
    x = torch.randn(shape[0], 64, *shape[1:])
    expected = network.run_trunk(x)
    assert (expected - x).norm() > 0.1 * x.norm()
    actual = WinogradTrunk(network)(x)
    assert actual.shape == expected.shape
    assert (actual - expected).norm() < 1e-6 * expected.norm()
    assert (actual - expected).abs().max() < 1e-5 * expected.abs().max()


@torch.no_grad()
def test_neither_threads_nor_other_images_change_a_bit(threads: None) -> None:
    trunk = WinogradTrunk(make_rrdb(4, 32, 1, 32))
    x = torch.randn(3, 32, 41, 26)
    torch.set_num_threads(1)
    expected = trunk(x)
    for number in (2, 3, 5):
        torch.set_num_threads(number)
        assert torch.equal(trunk(x), expected)
    assert torch.equal(trunk(x[2:]), expected[2:])


@pytest.mark.parametrize("half", [None, torch.bfloat16])
@pytest.mark.usefixtures("one_thread")
@torch.no_grad()
def test_the_fast_form_with_it_is_the_network(half: torch.dtype | None) -> None:
    network = make_rrdb(4, 32, 2, 32)
    x = torch.rand(2, 3, 9, 14)
    expected = network(x)
    error = (FastRRDB(network, half, winograd=True)(x) - expected).norm() / expected.norm()
    assert error < (1e-5 if half is None else 2e-2)


def test_narrow_networks_do_not_suit() -> None:
    assert suits(make_rrdb(4, 64, 1, 32))
    assert not suits(make_rrdb(4, 64, 1, 4))
    assert not suits(make_rrdb(4, 6, 1, 32))
