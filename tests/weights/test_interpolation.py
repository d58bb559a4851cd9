import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from exported_networks import exported_rrdb
from realsr.core.errors import UserError
from realsr.inference.model import load_model
from realsr.weights import convert_weights, load_generator, save_generator
from realsr.weights.conversion import interpolate_weights
from realsr.weights.layouts import to_first_layout
from realsr.weights.state_files import read_weights

MakeNetwork = Callable[..., nn.Module]
CONFIG = {"name": "rrdb", "features": 6, "blocks": 2, "growth": 4}
CPU = torch.device("cpu")


def perturbed(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: 0.5 * value + 0.1 for name, value in network.state_dict().items()}


@pytest.fixture
def folder(make_network: MakeNetwork, tmp_path: Path) -> Path:
    """Two generators of one size, in different formats and layouts of names."""
    network = make_network()
    save_generator(tmp_path / "a.safetensors", network, CONFIG, 4, {"step": 7})
    torch.save(to_first_layout(perturbed(network)), tmp_path / "b.pth")
    return tmp_path


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_each_weight_is_the_weighted_mean(
    alpha: float, folder: Path, make_network: MakeNetwork
) -> None:
    first = make_network().state_dict()
    second = perturbed(make_network())
    mean = interpolate_weights(
        read_weights(folder / "a.safetensors"), read_weights(folder / "b.pth"), alpha
    )
    assert mean.state.keys() == first.keys()
    for name, value in mean.state.items():
        expected = (1 - alpha) * first[name] + alpha * second[name]
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-7)
        if alpha in (0, 1):
            assert torch.equal(value, (first, second)[int(alpha)][name])


@pytest.mark.parametrize("name", ["mean.pth", "mean.safetensors"])
def test_an_exported_mean_is_the_model_of_both(name: str, folder: Path) -> None:
    pair = folder / "a.safetensors", folder / "b.pth"
    convert_weights(pair[0], folder / name, weights_b=pair[1], interpolate=0.8)
    x = torch.rand(1, 3, 9, 8)
    model = load_model(pair[0], CPU, "fp32", weights_b=pair[1], interpolate=0.8)
    exported = load_model(folder / name, CPU, "fp32")
    assert torch.equal(model.run(x), exported.run(x))
    ends = [load_model(path, CPU, "fp32").run(x) for path in pair]
    assert min(float((model.run(x) - end).abs().max()) for end in ends) > 1e-3


@pytest.mark.parametrize(
    ("scale", "size", "reason"),
    [
        (2, {}, "scale 4 and 2"),
        (4, {"blocks": 3}, "'blocks': 2"),
        (4, {"features": 8}, "'features': 6"),
    ],
)
def test_networks_that_differ_are_refused(
    scale: int, size: dict[str, int], reason: str, folder: Path, make_network: MakeNetwork
) -> None:
    network = make_network(scale, **size)
    save_generator(folder / "c.safetensors", network, CONFIG | size, scale)
    files = [read_weights(folder / f"{name}.safetensors") for name in "ac"]
    with pytest.raises(UserError, match=r"c\.safetensors cannot be interpolated") as error:
        interpolate_weights(*files, 0.5)
    assert reason in str(error.value)


def test_custom_networks_are_compared_without_their_code(tmp_path: Path) -> None:
    def save(name: str, network: nn.Module, width: int) -> None:
        config = {"name": "no_such_module.make", "width": width}
        save_generator(tmp_path / f"{name}.safetensors", network, config, 2)

    save("a", nn.Conv2d(3, 3, 1), 2)
    save("b", nn.Conv2d(3, 3, 1), 2)
    save("names", nn.Sequential(nn.Conv2d(3, 3, 1)), 2)
    save("shapes", nn.Conv2d(3, 3, 3), 2)
    save("config", nn.Conv2d(3, 3, 1), 3)
    files = {path.stem: read_weights(path) for path in tmp_path.iterdir()}
    mean = interpolate_weights(files["a"], files["b"], 0.5)
    assert json.loads(mean.metadata["realsr"])["generator"]["name"] == "no_such_module.make"
    reasons = {
        "names": "missing: bias, weight",
        "shapes": "of another shape: weight",
        "config": "width",
    }
    for name, reason in reasons.items():
        with pytest.raises(UserError, match=reason):
            interpolate_weights(files["a"], files[name], 0.5)


@pytest.mark.parametrize(
    ("source", "weights_b", "interpolate", "reason"),
    [
        ("a.safetensors", "b.pth", None, "set both"),
        ("a.safetensors", None, 0.5, "set both"),
        ("bicubic", "b.pth", 0.5, "bicubic has no weights"),
        ("a.safetensors", "other.pth", 0.5, "other.pth: cannot build a generator"),
        ("a.safetensors", "missing.pth", 0.5, "missing.pth: no such file"),
        ("x.onnx", "b.pth", 0.5, "x.onnx: .* without weights_b"),
        ("a.safetensors", "x.onnx", 0.5, "x.onnx: .* without weights_b"),
    ],
)
def test_what_cannot_be_interpolated(
    source: str,
    weights_b: str | None,
    interpolate: float | None,
    reason: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    torch.save(nn.Conv2d(3, 3, 1).state_dict(), "other.pth")
    Path("x.onnx").write_bytes(exported_rrdb(4).SerializeToString())
    with pytest.raises(UserError, match=reason):
        load_model(source, CPU, scale=4, weights_b=weights_b, interpolate=interpolate)


def test_one_source_is_unchanged(folder: Path) -> None:
    network, _ = load_generator(folder / "a.safetensors")
    x = torch.rand(1, 3, 9, 8)
    mean = load_model(
        folder / "a.safetensors",
        CPU,
        "fp32",
        weights_b=folder / "a.safetensors",
        interpolate=0.5,
    )
    with torch.no_grad():
        torch.testing.assert_close(mean.run(x), network(x), rtol=0, atol=1e-5)
