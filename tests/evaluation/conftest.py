import socket
from pathlib import Path

import pytest
import torch
from random_weights import write_hub, write_inception


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Torch hub's folder with every file that the metrics look for, but for Inception."""
    return write_hub(tmp_path_factory.mktemp("torch") / "hub")


@pytest.fixture(scope="session")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch_fidelity", reason="torch-fidelity is not installed")
    return write_inception(tmp_path_factory.mktemp("inception"))


@pytest.fixture
def full_hub(hub: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As if the libraries had downloaded everything."""
    monkeypatch.setattr("torch.hub._hub_dir", str(hub))
    return hub


@pytest.fixture
def empty_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError(f"the network was asked for: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)


@pytest.fixture
def no_initialisation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks whose weights are read from files at once need not spend seconds on random ones."""
    for name in ("kaiming_uniform_", "kaiming_normal_", "normal_", "uniform_", "trunc_normal_"):
        monkeypatch.setattr(torch.nn.init, name, lambda tensor, *args, **options: tensor)


@pytest.fixture
def cpu() -> torch.device:
    return torch.device("cpu")
