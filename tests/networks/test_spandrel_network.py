import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from config_files import yaml_values
from realsr.core.errors import UserError
from realsr.inference.model import load_model
from realsr.networks import build_generator
from realsr.weights.conversion import convert_weights
from realsr.weights.generators import (
    load_generator,
    load_generator_state,
    save_generator,
)
from small_spandrel import SMALL, small_values

pytest.importorskip("spandrel", reason="the extra `spandrel` is not installed")


def make(option: str, scale: int = 2) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_generator(small_values(option), scale).eval()


@pytest.mark.parametrize("option", SMALL)
def test_it_is_spandrels_own_call_at_every_size(option: str) -> None:
    from spandrel import ModelLoader

    network = make(option)
    own = ModelLoader(device="cpu").load_from_state_dict(network.state_dict())
    own.eval()
    for size in ((16, 24), (21, 18), (1, 7), (3, 40)):
        x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
        before = x.clone()
        with torch.no_grad():
            y = network(x)
            assert torch.equal(x, before)
            torch.testing.assert_close(y.clamp(0, 1), own(x), rtol=0, atol=1e-5)
        assert y.shape == (2, 3, 2 * size[0], 2 * size[1])


@pytest.mark.parametrize(
    ("architecture", "count"),
    # Published: 11.9 M (SwinIR, table 2), 9.6 M (HAT, table 4), 573 K (DAT, table 3), 7.39 M (PLKSR), 15.59 M (RCAN).
    [
        ("swinir", 11_900_199),
        ("hat_s", 9_621_183),
        ("dat_light", 572_766),
        ("plksr", 7_386_096),
        ("rcan", 15_592_379),
    ],
)
def test_parameter_counts_are_those_of_the_papers(architecture: str, count: int) -> None:
    network = build_generator(yaml_values(f"generator/{architecture}"), 4)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_merged_convolutions_of_span_compute_what_the_trained_ones_do() -> None:
    network = make("span")
    x = torch.rand(1, 3, 40, 40)
    with torch.no_grad():
        merged, trained = network(x), network.train()(x)
    # The border differs: a bias before zero padding is no bias after it.
    inner = slice(40, -40)
    torch.testing.assert_close(merged[..., inner, inner], trained[..., inner, inner])


def test_a_copy_merges_its_own_convolutions() -> None:
    network = make("span")
    average = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    x = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        assert average.eval()(x).std() > 0
        assert network.eval()(x).std() == 0


def test_weights_of_other_programs_load_and_go_back(tmp_path: Path) -> None:
    """Files of BasicSR, with the averaged weights beside the raw ones."""
    from spandrel import ModelLoader

    network = make("hat_s")
    torch.save({"params_ema": network.state_dict()}, tmp_path / "official.pth")
    other = build_generator(small_values("hat_s"), 2)
    load_generator_state(other, tmp_path / "official.pth")
    x = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(other.eval()(x), network(x))
    save_generator(tmp_path / "own.safetensors", other, small_values("hat_s"), 2)
    convert_weights(tmp_path / "own.safetensors", tmp_path / "back.pth")
    back = ModelLoader(device="cpu").load_from_file(tmp_path / "back.pth")
    assert back.architecture.id == "HAT"
    assert all(
        torch.equal(value, network.state_dict()[name])
        for name, value in back.model.state_dict().items()
    )


@pytest.mark.parametrize(
    ("architecture", "arguments", "scale", "reason"),
    [
        ("SwinIRR", {}, 4, r"generator\.architecture=SwinIRR: expected one of ATD, .*SwinIR$"),
        ("DnCNN", {}, 4, r"generator\.architecture=DnCNN: expected one of ATD, "),  # without a scale
        ("SwinIR", {"depth": [2]}, 4, r"unknown key generator\.arguments\.depth\. .*generator\.arguments\.depths\?"),
        ("SwinIR", {"upscale": 2}, 4, r"unknown key generator\.arguments\.upscale\."),
        ("SwinIR", {"window_size": 8}, 4, r"a network of scale 1, .*expected scale 4 .*upsampler"),
        ("SwinIR", {"window_size": 8, "in_chans": 1, "upsampler": "pixelshuffle"}, 4, "4, 1 channels in and 1 out"),
        ("SPAN", {"feature_channels": -1}, 4, r"spandrel cannot make SPAN of it \("),
        ("RCAN", {}, 5, r"spandrel cannot make RCAN of it \(NotImplementedError\)"),
    ],
)  # fmt: skip
def test_what_it_cannot_make_is_an_error_with_the_reason(
    architecture: str, arguments: dict[str, Any], scale: int, reason: str
) -> None:
    values = {"name": "spandrel_network", "architecture": architecture, "arguments": arguments}
    with pytest.raises(UserError, match=reason):
        build_generator(values, scale)


@pytest.mark.parametrize("name", ["compact", "SRVGGNetCompact", "RealPLKSR", "swinir"])
def test_architectures_have_the_names_of_their_classes_in_any_case(name: str) -> None:
    arguments = {"window_size": 8, "upsampler": "pixelshuffle"} if name == "swinir" else {}
    values = {"name": "spandrel_network", "architecture": name, "arguments": arguments}
    network = build_generator(values, 3)
    assert type(network.network).__name__.lower() in (name.lower(), "srvggnetcompact")


def test_without_spandrel_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(UserError, match=r"SPAN: needs spandrel: pip install 'realsr\[spandrel\]'"):
        build_generator(small_values("span"), 4)


def test_a_file_whose_metadata_name_a_larger_network_is_refused(tmp_path: Path) -> None:
    values = small_values("span")
    large = values | {"arguments": {"feature_channels": 20_000}}  # 28 GB for each of its layers
    save_generator(tmp_path / "x.safetensors", build_generator(values, 2), large, 2)
    with pytest.raises(
        UserError, match=r"x\.safetensors: cannot build a generator from it: .*SPAN"
    ):
        load_generator(tmp_path / "x.safetensors")


def test_a_half_precision_that_the_network_does_not_suit_is_refused(tmp_path: Path) -> None:
    values, cpu = small_values("swinir"), torch.device("cpu")
    save_generator(tmp_path / "x.safetensors", build_generator(values, 2), values, 2)
    with pytest.raises(UserError, match=r"x\.safetensors: SwinIR does not support torch\.fl"):
        load_model(tmp_path / "x.safetensors", cpu, precision="fp16")
    assert load_model(tmp_path / "x.safetensors", cpu, precision="bf16").scale == 2
