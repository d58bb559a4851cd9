import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from realsr.core.errors import UserError
from realsr.weights import load_generator, load_generator_state

MakeNetwork = Callable[..., nn.Module]
State = dict[str, Tensor]


def first_layout(state: State) -> State:
    """As ESRGAN's first code and RealSR's files name them, written out for each scale."""
    blocks = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("RRDB_trunk"))
    ends = {"conv_first": "model.0", "trunk_conv": f"model.1.sub.{blocks}", "upconv1": "model.3"}
    if "upconv3.weight" in state:
        ends |= {"upconv2": "model.6", "upconv3": "model.9"}
        ends |= {"HRconv": "model.11", "conv_last": "model.13"}
    elif "upconv2.weight" in state:
        ends |= {"upconv2": "model.6", "HRconv": "model.8", "conv_last": "model.10"}
    elif "upconv1.weight" not in state:
        ends |= {"HRconv": "model.2", "conv_last": "model.4"}
    else:
        ends |= {"HRconv": "model.5", "conv_last": "model.7"}
    renamed = {}
    for name, value in state.items():
        layer, _, kind = name.rpartition(".")
        inner = layer.replace("RRDB_trunk.", "model.1.sub.") + ".0"
        renamed[f"{ends.get(layer, inner)}.{kind}"] = value
    assert "model.1.sub.0.RDB1.conv1.0.weight" in renamed
    return renamed


def basicsr(state: State) -> State:
    names = {
        "RRDB_trunk": "body",
        "RDB": "rdb",
        "trunk_conv": "conv_body",
        "upconv": "conv_up",
        "HRconv": "conv_hr",
    }
    renamed = {
        re.sub("|".join(names), lambda found: names[found[0]], name): value
        for name, value in state.items()
    }
    assert {
        "body.0.rdb1.conv1.weight",
        "conv_up2.bias",
        "conv_hr.bias",
        "conv_body.bias",
    } <= renamed.keys()
    return renamed


def under(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


def parallel(state: State) -> State:
    return under("module.", state)


LAYOUTS = [
    pytest.param(dict, 4, id="ours-x4"),
    pytest.param(dict, 2, id="ours-x2"),
    pytest.param(dict, 1, id="ours-x1"),
    pytest.param(dict, 8, id="ours-x8"),
    pytest.param(first_layout, 4, id="first-x4"),
    pytest.param(first_layout, 2, id="first-x2"),
    pytest.param(first_layout, 1, id="first-x1"),
    pytest.param(first_layout, 8, id="first-x8"),
    pytest.param(basicsr, 4, id="basicsr"),
    pytest.param(parallel, 4, id="parallel"),
]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(("rename", "scale"), LAYOUTS)
def test_every_layout_is_the_same_network(
    rename: Callable[[State], State],
    scale: int,
    suffix: str,
    make_network: MakeNetwork,
    same_output,
    tmp_path: Path,
) -> None:
    network = make_network(scale, blocks=3)
    path = tmp_path / f"x{suffix}"
    state = rename(network.state_dict())
    torch.save(state, path) if suffix == ".pth" else save_file(state, path)
    built, found = load_generator(path)
    assert found == scale
    assert not built.training
    assert same_output(built, network)
    filled = make_network(scale, blocks=3)
    nn.init.zeros_(filled.conv_first.weight)
    load_generator_state(filled, str(path))
    assert same_output(filled, network)


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda good, bad: {"params": good}, "under params"),
        (
            lambda good, bad: {"params": bad, "params_ema": good},
            "under params_ema (the file also has params)",
        ),
        (lambda good, bad: {"state_dict": good, "epoch": 3}, "under state_dict"),
        (lambda good, bad: {"model": {"params": good}}, "under params"),
        (lambda good, bad: {"step": 4, "generator": good, "discriminator": bad}, "under generator"),
        (
            lambda good, bad: {"epoch": 4, "net_g": good, "net_d": {"conv.weight": torch.ones(1)}},
            "under net_g",
        ),
        (
            lambda good, bad: {
                "state_dict": under("generator.", good) | {"discriminator.x": torch.ones(1)}
            },
            "state_dict",
        ),
        (
            lambda good, bad: {
                "state_dict": under("generator.", bad) | under("generator_ema.", good)
            },
            "under generator_ema. (the file also has generator.)",
        ),
    ],
)
def test_files_of_several_things_say_what_is_taken(
    wrap: Callable[[State, State], object],
    message: str,
    make_network: MakeNetwork,
    same_output,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    network = make_network()
    bad = {name: torch.zeros_like(value) for name, value in network.state_dict().items()}
    torch.save(wrap(basicsr(network.state_dict()), bad), tmp_path / "x.pth")
    with caplog.at_level(logging.INFO):
        assert same_output(load_generator(tmp_path / "x.pth")[0], network)
    assert message in caplog.text


def test_half_precision_becomes_float32(make_network: MakeNetwork, tmp_path: Path) -> None:
    state = make_network().state_dict()
    torch.save({name: value.half() for name, value in state.items()}, tmp_path / "x.pth")
    for name, value in load_generator(tmp_path / "x.pth")[0].state_dict().items():
        assert torch.equal(value, state[name].half().float())


@pytest.mark.parametrize("rename", [dict, basicsr, first_layout])
def test_weights_of_another_size_name_tensors_and_what_would_fit(
    rename: Callable[[State], State], make_network: MakeNetwork, tmp_path: Path
) -> None:
    torch.save(rename(make_network(4, blocks=3).state_dict()), tmp_path / "x.pth")
    generator = make_network(4, blocks=2)
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    expected = (
        r"x\.pth: weights of another generator \(not expected: RRDB_trunk\.2\.\S+, .*: "
        r"they fit generator\.blocks=3$"
    )
    with pytest.raises(UserError, match=expected):
        load_generator_state(generator, tmp_path / "x.pth")
    for name, value in generator.state_dict().items():
        assert torch.equal(value, before[name]), "nothing is changed by weights that do not fit"
    for other, fits in (
        (make_network(2, blocks=3), "scale=4"),
        (make_network(4, blocks=3, growth=5), "generator.growth=4"),
        (make_network(2, features=5), "generator.features=6 generator.blocks=3 scale=4"),
        (
            nn.Conv2d(3, 3, 1),
            "generator=rrdb generator.features=6 generator.blocks=3 generator.growth=4 scale=4",
        ),
    ):
        with pytest.raises(UserError, match=rf": they fit {re.escape(fits)}$"):
            load_generator_state(other, tmp_path / "x.pth")
    with pytest.raises(
        UserError, match=r"RRDB_trunk.0.RDB1.conv1.weight \(4, 6, 3, 3\) instead of \(5, 6, 3, 3\)"
    ):
        load_generator_state(make_network(4, blocks=3, growth=5), tmp_path / "x.pth")


def test_pixel_unshuffle_is_told_as_another_network(
    make_network: MakeNetwork, tmp_path: Path
) -> None:
    state = basicsr(make_network().state_dict())
    state["conv_first.weight"] = torch.zeros(6, 12, 3, 3)
    torch.save({"params_ema": state}, tmp_path / "x2plus.pth")
    for read in (load_generator, lambda path: load_generator_state(make_network(2), path)):
        with pytest.raises(
            UserError, match=r"x2plus\.pth.* \(6, 12, 3, 3\) instead of \(6, 3, 3, 3\)"
        ):
            read(tmp_path / "x2plus.pth")


def test_a_whole_that_lacks_or_adds_a_layer_is_refused(
    make_network: MakeNetwork, tmp_path: Path
) -> None:
    state = make_network().state_dict()
    for name, changed in (
        (
            "missing: HRconv.bias",
            {key: value for key, value in state.items() if key != "HRconv.bias"},
        ),
        ("not expected: attention.weight", state | {"attention.weight": torch.zeros(1)}),
        ("not expected: upconv4.weight", state | {"upconv4.weight": torch.zeros(6, 6, 3, 3)}),
        ("an? RRDB generator|another generator", {"weight": torch.zeros(3)}),
    ):
        torch.save(changed, tmp_path / "x.pth")
        with pytest.raises(UserError, match=name):
            load_generator(tmp_path / "x.pth")
