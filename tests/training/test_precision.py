from collections.abc import Iterator

import pytest
import torch

from realsr.core.devices import allow_tf32, choose_precision
from realsr.core.errors import UserError

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def switches() -> Iterator[None]:
    before = (
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.allow_tf32,
        torch.backends.cudnn.benchmark,
    )
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = before[1:]


@pytest.mark.parametrize(
    ("name", "device", "bf16", "half", "tf32"),
    [
        ("auto", CPU, True, None, False),
        ("bf16", CPU, True, torch.bfloat16, False),
        ("auto", GPU, True, torch.bfloat16, True),
        ("auto", GPU, False, None, True),
        ("fp16", GPU, False, torch.float16, True),
        ("tf32", GPU, True, None, True),
        ("fp32", GPU, True, None, False),
    ],
)
def test_what_a_name_means(
    name: str,
    device: torch.device,
    bf16: bool,
    half: torch.dtype | None,
    tf32: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **options: bf16)
    precision = choose_precision(name, device, training=True)
    assert (precision.half, precision.tf32) == (half, tf32)
    if device == GPU:
        assert torch.backends.cudnn.allow_tf32 is tf32
        assert torch.backends.cuda.matmul.allow_tf32 is tf32


def test_bf16_on_a_gpu_without_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **options: False)
    with pytest.raises(UserError, match="does not support bf16: set fp16, tf32, fp32 or auto"):
        choose_precision("bf16", GPU, training=True)


def test_what_torch_compile_reads_stays_readable() -> None:
    for allowed in (True, False, True):
        allow_tf32(allowed)
        assert torch.backends.cuda.matmul.allow_tf32 is allowed
        assert torch.backends.cudnn.allow_tf32 is allowed
        assert torch.backends.cudnn.conv.fp32_precision == ("tf32" if allowed else "none")  # type: ignore[attr-defined]
