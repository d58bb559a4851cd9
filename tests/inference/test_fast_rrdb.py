import logging
import sys
from functools import cache

import pytest
import torch
from small_rrdb import make_rrdb

from realsr.core.devices import Precision
from realsr.inference import fast_rrdb
from realsr.inference.fast_rrdb import (
    DIRECT,
    DIRECT_BF16,
    TIMES,
    WINOGRAD,
    WINOGRAD_BF16,
    FastRRDB,
    Form,
    choose_form,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 50), (1, 50, 1), (2, 7, 5), (1, 33, 18)])
@torch.no_grad()
def test_in_float32_it_is_the_network(scale: int, shape: tuple[int, int, int]) -> None:
    network = make_rrdb(scale)
    x = torch.rand(shape[0], 3, *shape[1:])
    expected = network(x)
    assert expected.abs().mean() > 0.05
    actual = FastRRDB(network, None)(x)
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() < 1e-5


@pytest.mark.parametrize(("features", "blocks", "growth"), [(1, 1, 1), (3, 1, 2), (16, 3, 8)])
@torch.no_grad()
def test_it_is_the_network_at_any_size_of_it(features: int, blocks: int, growth: int) -> None:
    network = make_rrdb(4, features, blocks, growth)
    x = torch.rand(1, 3, 9, 6)
    assert torch.allclose(FastRRDB(network, None)(x), network(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("half", [None, torch.bfloat16])
def test_cells_do_not_show(scale: int, half: torch.dtype | None) -> None:
    network = make_rrdb(scale)
    x = torch.rand(2, 3, 23, 13)
    whole = FastRRDB(network, half, cell=1000)(x)
    for cell in (1, 4, 11):
        # bf16 rounds to 8 bits, and a sum in another order may round to the neighbour
        tolerance = 1e-5 if half is None else 2e-2
        assert (FastRRDB(network, half, cell=cell)(x) - whole).abs().max() < tolerance


@torch.no_grad()
def test_half_precision_is_nearer_than_the_network_in_half_precision_throughout() -> None:
    network = make_rrdb(4, 16, 6, 8)
    x = torch.rand(1, 3, 24, 24)
    expected = network(x)
    actual = FastRRDB(network, torch.bfloat16)(x)
    plain = network.to(torch.bfloat16)(x.to(torch.bfloat16)).float()
    assert actual.dtype == torch.float32
    assert 0 < (actual - expected).square().mean() < 0.5 * (plain - expected).square().mean()


def test_it_leaves_the_network_and_the_picture_as_they_are() -> None:
    network, x = make_rrdb(), torch.rand(1, 3, 6, 6)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    given = x.clone()
    for half in (None, torch.bfloat16):
        assert not FastRRDB(network, half)(x).requires_grad
    assert torch.equal(x, given)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


CPU, BF16 = torch.device("cpu"), torch.bfloat16


def choose(half: torch.dtype | None, automatic: bool, growth: int = 32) -> Form:
    return choose_form(make_rrdb(4, 64, 1, growth), Precision(CPU, half), automatic)


@pytest.fixture(params=[*TIMES, "other"])
def instruction_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(fast_rrdb, "cpu_instruction_set", lambda: request.param)
    return request.param


def test_the_fastest_form_is_chosen(instruction_set: str) -> None:
    pytest.importorskip("numba")
    half = BF16 if instruction_set == "avx512_bf16" else None
    times = TIMES.get(instruction_set, {DIRECT: 1.0})
    assert times[choose(half, automatic=True)] == min(times.values())
    assert choose(None, automatic=False) == (DIRECT if instruction_set == "other" else WINOGRAD)


def test_an_explicit_precision_is_used(instruction_set: str) -> None:
    for half in (None, BF16, torch.float16):
        assert choose(half, automatic=False).half == half


def test_narrow_networks_use_the_direct_form(instruction_set: str) -> None:
    assert choose(None, automatic=False, growth=4) == DIRECT
    assert choose(BF16, automatic=False, growth=4) == DIRECT_BF16


@pytest.mark.parametrize(
    ("instruction_set", "is_installed", "advice"),
    [
        ("avx2", False, "about 2.4 times as fast with numba: pip install 'realsr[fast]'\n"),
        ("avx512_bf16", False, "about 1.3 times as fast with numba: pip install 'realsr[fast]'\n"),
        ("avx2", True, "it is installed, but cannot be imported (import of realsr.inference.win"),
    ],
)
def test_without_numba_the_direct_form_is_used_and_one_line_recommends_it(
    instruction_set: str,
    is_installed: bool,
    advice: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(fast_rrdb, "_import_suits", cache(fast_rrdb._import_suits.__wrapped__))
    monkeypatch.setattr(fast_rrdb, "cpu_instruction_set", lambda: instruction_set)
    monkeypatch.setattr(fast_rrdb, "find_spec", lambda name: is_installed or None)
    monkeypatch.setitem(sys.modules, "realsr.inference.winograd", None)
    with caplog.at_level(logging.INFO, logger="realsr"):
        assert choose(None, automatic=False) == DIRECT
        assert choose(BF16, automatic=True) == (
            DIRECT_BF16 if instruction_set == "avx512_bf16" else DIRECT
        )
    [record] = caplog.records
    assert record.getMessage().startswith("upscaling on this CPU is about ")
    assert advice in caplog.text


def test_a_gpu_uses_the_direct_form() -> None:
    precision = Precision(torch.device("cuda", 0), BF16)
    assert choose_form(make_rrdb(4, 64, 1, 32), precision, automatic=True) == DIRECT_BF16


def test_forms_state_where_they_use_float32() -> None:
    assert str(DIRECT_BF16) == "bfloat16"
    assert str(WINOGRAD_BF16).startswith("bfloat16, dense blocks in float32 by Winograd")
