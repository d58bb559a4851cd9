"""Weights are large: whatever is made of a file, its tensors are read once."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from realsr.api import export, load_config
from realsr.inference.model import load_model
from realsr.networks import build_generator
from realsr.weights import convert_weights, load_generator, save_generator, state_files

SIZE = {"name": "rrdb", "features": 4, "blocks": 1, "growth": 2}
USES: dict[str, Callable[[Path], object]] = {
    "load": load_generator,
    "upscale": lambda path: load_model(path, torch.device("cpu"), "fp32"),
    "export": lambda path: export(
        load_config(
            "export",
            [f"weights={path}", f"output={path.parent / 'new'}", "formats=[safetensors]"],
        )
    ),
    "convert": lambda path: convert_weights(path, path.with_name("converted.safetensors")),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_tensors_are_read_once(
    suffix: str, use: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, network = tmp_path / f"x{suffix}", build_generator(SIZE, 2)
    if suffix == ".pth":
        torch.save(network.state_dict(), path)
    else:
        save_generator(path, network, SIZE, 2)
    read, calls = state_files.read_tensors, list[Path]()
    monkeypatch.setattr(state_files, "read_tensors", lambda path: calls.append(path) or read(path))
    USES[use](path)
    assert calls == [path]
