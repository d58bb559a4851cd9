import logging
import sys

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
    Form,
    choose_form,
)

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


def test_without_numba_the_direct_form_is_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fast_rrdb, "cpu_instruction_set", lambda: "avx512_bf16")
    monkeypatch.setitem(sys.modules, "realsr.inference.winograd", None)
    with caplog.at_level(logging.INFO, logger="realsr"):
        assert choose(None, automatic=False) == DIRECT
        assert choose(BF16, automatic=True) == DIRECT_BF16
    assert "pip install 'realsr[fast]'" in caplog.text


def test_a_gpu_uses_the_direct_form() -> None:
    precision = Precision(torch.device("cuda", 0), BF16)
    assert choose_form(make_rrdb(4, 64, 1, 32), precision, automatic=True) == DIRECT_BF16


def test_forms_state_where_they_use_float32() -> None:
    assert str(DIRECT_BF16) == "bfloat16"
    assert str(WINOGRAD_BF16).startswith("bfloat16, dense blocks in float32 by Winograd")
