import pytest
import torch

from realsr.devices import choose_device
from realsr.errors import UserError


def test_auto_is_a_device_that_is_there() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu") == torch.device("cpu")


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


@pytest.mark.parametrize("name", ["cuda:99", "toaster"])
def test_a_device_that_is_not_there(name: str) -> None:
    with pytest.raises(UserError, match=rf"kernels\.device={name} cannot be used \(.+\): say auto, cpu or cuda"):
        choose_device(name, "kernels.device")
