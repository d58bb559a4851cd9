from pathlib import Path

import pytest
import torch

from realsr.core import machine
from realsr.core.devices import choose_device, lacks_vnni
from realsr.core.errors import UserError


def test_auto_is_a_device_that_is_there() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu") == torch.device("cpu")


def test_auto_is_apples_gpu_without_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch, "empty", lambda *size, device: None)
    assert choose_device("auto") == torch.device("mps")


def test_a_gpu_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = list[torch.device]()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch, "empty", lambda *size, device: None)
    for index in (0, 1, 2):
        choose_device("auto", index=index)
    choose_device("cuda:1", index=0)
    assert chosen == [torch.device("cuda", index) for index in (0, 1, 0, 1)]


@pytest.mark.parametrize(
    ("name", "gpus", "message"),
    [
        ("cuda:99", 0, "cuda:99: cannot be used (out of memory): expected auto, cpu"),
        ("cuda:1", 2, "cuda:1: cannot be used (out of memory): expected auto, cpu, cuda:0, cuda:1"),
    ],
)
def test_a_device_that_is_not_there(
    name: str, gpus: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*size: int, device: torch.device) -> None:
        raise RuntimeError("out of memory\nand more")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch, "empty", fail)
    with pytest.raises(UserError) as error:
        choose_device(name, "kernels.device")
    assert str(error.value) == f"kernels.device={message}"


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("processor\t: 0\nflags\t\t: fma avx2 avx512f\n", True),
        ("processor\t: 0\nflags\t\t: fma avx2 avx512_vnni\n", False),
        ("processor\t: 0\nflags\t\t: fma avx2 avx_vnni\n", False),
        ("processor\t: 0\nFeatures\t: fp asimd\n", False),  # ARM
        (None, False),
    ],
)
def test_vnni_is_read_from_the_flags(
    cpuinfo: str | None, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cpuinfo"
    if cpuinfo is not None:
        file.write_text(cpuinfo)
    monkeypatch.setattr(machine, "CPUINFO", file)
    assert lacks_vnni() == expected
