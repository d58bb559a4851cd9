import hashlib
import json
import logging
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

import realsr
from realsr.inference.model import load_model
from realsr.weights import convert_weights, load_generator, save_generator
from realsr.weights.conversion import read_with_origin
from realsr.weights.origin import Origin, find_origin, mix_origins, read_origin
from realsr.weights.state_files import ORIGIN, read_weights

MakeNetwork = Callable[..., nn.Module]
RECORDS = Path(__file__).parents[1] / "records/7a7b301"
CONFIG = {"name": "rrdb", "features": 6, "blocks": 2, "growth": 4}


@pytest.fixture
def weights(make_network: MakeNetwork, tmp_path: Path) -> Path:
    path = tmp_path / "mine.safetensors"
    save_generator(path, make_network(), CONFIG, 4)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_a_file_stores_licence_source_and_version(
    name: str, weights: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(weights.parent)
    convert_weights(weights, Path(name), licence="CC-BY-4.0")
    expected = {
        "licence": "CC-BY-4.0",
        "source": "mine.safetensors",
        "source_sha256": sha256(weights),
        "made_by": f"realsr {realsr.__version__}",
    }
    assert read_origin(read_weights(Path(name))) == expected
    if name.endswith(".safetensors"):
        with safe_open(name, framework="pt") as content:
            assert json.loads(content.metadata()["realsr"])["origin"] == expected | {
                "training": None
            }
    caplog.set_level(logging.INFO, "realsr")
    load_model(name, torch.device("cpu"), "fp32")
    assert "x." in caplog.text
    assert "licence CC-BY-4.0, source mine.safetensors, written by realsr" in caplog.text


def test_a_pth_remains_a_plain_state_dict(weights: Path) -> None:
    """As programs read it that know neither this package nor its metadata."""
    convert_weights(weights, path := weights.with_name("x.pth"), licence="MIT")
    for state in (torch.load(path, weights_only=True), torch.load(path, weights_only=False)):
        assert type(state) is OrderedDict
        assert all(isinstance(value, torch.Tensor) for value in state.values())
    # `load_state_dict` reads `_metadata`, strict about names.
    network = nn.Module()
    for name, value in state.items():
        network.register_buffer(name.replace(".", "_"), value * 0)
    renamed = OrderedDict((name.replace(".", "_"), value) for name, value in state.items())
    renamed._metadata = state._metadata  # type: ignore[attr-defined]
    network.load_state_dict(renamed, strict=True)


def test_the_licence_follows_a_file(weights: Path) -> None:
    first, second = (weights.with_name(name) for name in ("first.pth", "second.safetensors"))
    convert_weights(weights, first, licence="MIT")
    convert_weights(first, second)
    origin = read_origin(read_weights(second))
    assert (origin["licence"], origin["source"]) == ("MIT", "first.pth")
    assert origin["source_sha256"] == sha256(first)
    assert read_with_origin(weights, None, None, None)[1].licence is None


def test_the_licence_of_a_published_model(weights: Path) -> None:
    file = read_weights(weights)
    assert find_origin("df2k", file).licence == "Apache-2.0"
    assert find_origin(Path("df2k"), file).licence is None, "a path is not a published name"
    assert find_origin("./df2k", file).licence is None


@pytest.mark.parametrize(
    ("name", "steps"), [("generator.safetensors", 7), ("checkpoints/step_00000005.pt", 5)]
)
def test_a_run_has_its_training(
    name: str, steps: int, make_network: MakeNetwork, tmp_path: Path
) -> None:
    config = "track: dped\ninit: /far/psnr.pth\ndata: {source: /a/phone, target: null}\n"
    (tmp_path / "config.yaml").write_text(config)
    (tmp_path / "checkpoints").mkdir()
    save_generator(tmp_path / "generator.safetensors", make_network(), CONFIG, 4, {"step": 7})
    checkpoint = {"generator": make_network().state_dict()}
    torch.save(checkpoint, tmp_path / "checkpoints/step_00000005.pt")
    origin = find_origin(tmp_path / name, read_weights(tmp_path / name))
    assert origin.training == {
        "config_sha256": sha256(tmp_path / "config.yaml"),
        "track": "dped",
        "data": {"source": "phone"},
        "init": "psnr.pth",
        "steps": steps,
    }
    assert str(tmp_path) not in json.dumps(origin.as_texts())
    (tmp_path / "config.yaml").write_text(config.replace("/far/psnr.pth", "hf://me/psnr@v1"))
    training = find_origin(tmp_path / name, read_weights(tmp_path / name)).training
    assert training is not None
    assert training["init"] == "hf://me/psnr@v1"
    (tmp_path / "config.yaml").write_text(config)
    convert_weights(tmp_path / name, tmp_path / "x.pth")
    stored = read_origin(read_weights(tmp_path / "x.pth"))
    assert json.loads(stored["training"]) == origin.training
    other = tmp_path / "other.safetensors"
    save_generator(other, make_network(), CONFIG, 4)
    assert find_origin(other, read_weights(other)).training is None, "not a file of the run"


def test_the_steps_of_a_finished_run_are_in_its_record() -> None:
    file = read_weights(RECORDS / "run_finished/generator.safetensors")
    training = find_origin("run_finished", file).training
    manifest = json.loads((RECORDS / "run_finished/manifest.json").read_text())
    assert training is not None
    assert training["steps"] == manifest["training"]["items"]["generator"]["steps"]
    assert training["data"] == {"source": "source"}


def test_both_licences_of_interpolated_weights_apply() -> None:
    first = Origin("Apache-2.0", "a", "1", {"steps": 7}, "realsr 0")
    second = Origin("BSD-3-Clause", "b", "2", None, "realsr 0")
    mean = mix_origins(first, second, 0.75)
    assert mean.licence == "Apache-2.0 AND BSD-3-Clause"
    assert (mean.source, mean.source_sha256) == ("0.25 * a + 0.75 * b", "1 2")
    assert mean.training == {"a": {"steps": 7}}
    assert mix_origins(first, first, 0.5).licence == "Apache-2.0"
    assert mix_origins(first, Origin(None, "c", "3", None, ""), 0.5).licence is None


@pytest.mark.parametrize(
    "metadata",
    [
        3,
        {ORIGIN: "text"},
        {ORIGIN: {"json": 3}},
        {ORIGIN: {"json": "{"}},
        {ORIGIN: {"json": "[1]"}},
        {ORIGIN: {"json": '{"training": [1], "licence": null, "other": "x"}'}},
        {ORIGIN: {"json": '{"licence": {"a": 1}, "source": ' + '"' + "x" * 10**5 + '"}'}},
    ],
)
def test_invalid_metadata_is_ignored(
    metadata: object, make_network: MakeNetwork, tmp_path: Path
) -> None:
    state = OrderedDict(make_network().state_dict())
    state._metadata = metadata  # type: ignore[attr-defined]
    torch.save(state, tmp_path / "x.pth")
    assert read_origin(read_weights(tmp_path / "x.pth")) == {}
    load_generator(tmp_path / "x.pth")
