import logging

import pytest
import torch

from realsr.core import devices
from realsr.core.devices import choose_precision
from realsr.core.errors import UserError

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def pretend_gpu(monkeypatch: pytest.MonkeyPatch, bf16: bool, capability: tuple[int, int]) -> None:
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: bf16 or including_emulation
    )
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)


@pytest.mark.parametrize("has_bf16", [True, False])
def test_a_cpu_computes_in_bf16_where_it_has_instructions(
    has_bf16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "avx512_bf16" if has_bf16 else "avx512"
    monkeypatch.setattr(devices, "cpu_instruction_set", lambda: name)
    assert choose_precision("auto", CPU).half == (torch.bfloat16 if has_bf16 else None)
    assert choose_precision("fp32", CPU).half is None


def test_what_a_cpu_emulates_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(devices, "cpu_instruction_set", lambda: "avx2")
    with caplog.at_level(logging.WARNING, logger="realsr"):
        assert choose_precision("bf16", CPU).half == torch.bfloat16
    assert "precision=bf16: emulated on this cpu" in caplog.text


@pytest.mark.parametrize(
    ("bf16", "capability", "half"),
    [(True, (9, 0), torch.bfloat16), (False, (7, 5), torch.float16), (False, (6, 1), None)],
)  # fmt: skip
def test_a_gpu_computes_in_what_its_matrix_units_have(
    bf16: bool,
    capability: tuple[int, int],
    half: torch.dtype | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend_gpu(monkeypatch, bf16, capability)
    assert choose_precision("auto", GPU).half == half
    assert choose_precision("fp16", GPU).half == torch.float16
    if not bf16:
        with pytest.raises(
            UserError,
            match=r"precision=bf16: this GPU does not support bf16: set .*fp16.* or auto",
        ):
            choose_precision("bf16", GPU)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(UserError, match="precision=fp8: expected one of auto, bf16, fp16, fp32"):
        choose_precision("fp8", CPU)


@pytest.mark.parametrize(("name", "tf32"), [("fp32", False), ("fp16", True)])
def test_float32_on_a_gpu_is_exact_while_it_computes(
    name: str, tf32: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_gpu(monkeypatch, True, (9, 0))
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    with choose_precision(name, GPU).computing():
        assert torch.backends.cudnn.allow_tf32 == tf32
        assert torch.get_float32_matmul_precision() == ("high" if tf32 else "highest")
        assert not torch.is_grad_enabled()
    assert (torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()) == before
