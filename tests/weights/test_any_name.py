"""The content of a file decides how it is read, not its name; and what people's programs put around weights."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from test_layouts import basicsr, first_layout
from test_ncnn import write_ncnn
from torch import Tensor, nn

from realsr.core.errors import UserError
from realsr.weights import convert_weights, load_generator, load_generator_state
from realsr.weights.state_files import read_weights

MakeNetwork = Callable[..., nn.Module]
State = dict[str, Tensor]


@pytest.mark.parametrize(
    "name",
    ["MODEL.SAFETENSORS", "x.pth", "x.PT", "x.ckpt", "x.bin", "x.onnx", "x", "x.safetensors"],
)
@pytest.mark.parametrize("kind", ["safetensors", "zip", "pickle"])
def test_any_name_will_do(
    name: str, kind: str, make_network: MakeNetwork, same_output, tmp_path: Path
) -> None:
    network, path = make_network(), tmp_path / name
    if kind == "safetensors":
        save_file(network.state_dict(), path)
    else:
        torch.save(network.state_dict(), path, _use_new_zipfile_serialization=kind == "zip")
    built, scale = load_generator(path)
    assert scale == 4
    assert same_output(built, network)
    filled = make_network()
    nn.init.zeros_(filled.conv_first.weight)
    load_generator_state(filled, path)
    assert same_output(filled, network)


@pytest.mark.parametrize("change", [
    lambda text: text.replace("\n", "\r\n"),
    lambda text: f"\ufeff{text}",
    lambda text: f"\ufeff{text}".replace("\n", "\r\n"),
])  # fmt: skip
def test_an_ncnn_param_may_have_a_mark_and_other_ends_of_lines(
    change: Callable[[str], str], make_network: MakeNetwork, same_output, tmp_path: Path
) -> None:
    network = make_network()
    param = write_ncnn(tmp_path, network.state_dict(), half=False)
    param.write_bytes(change(param.read_text()).encode())
    for source in (param, param.with_suffix(".bin")):
        assert same_output(load_generator(source)[0], network)


def test_ncnn_names_in_capitals(make_network: MakeNetwork, same_output, tmp_path: Path) -> None:
    network = make_network()
    param = write_ncnn(tmp_path, network.state_dict(), half=False)
    for path in (param, param.with_suffix(".bin")):
        path.rename(path.with_name(path.name.upper()))
    for name in ("X4.PARAM", "X4.BIN"):
        assert same_output(load_generator(tmp_path / name)[0], network)


def test_a_bin_of_torch_is_no_half_of_an_ncnn_model(
    make_network: MakeNetwork, same_output, tmp_path: Path
) -> None:
    network = make_network()
    param = write_ncnn(tmp_path, network.state_dict(), half=False)
    torch.save(network.state_dict(), param.with_suffix(".bin"))
    assert same_output(load_generator(param.with_suffix(".bin"))[0], network)
    with pytest.raises(
        UserError, match=r"x4\.bin: is a PyTorch file, not the other half of x4\.param"
    ):
        load_generator(param)
    param.with_suffix(".bin").write_text("<html></html>")
    for path in (param, param.with_suffix(".bin")):
        with pytest.raises(UserError, match=r"x4\.bin: is a web page"):
            load_generator(path)


def counted(state: State) -> State:
    return state | {
        "n_averaged": torch.tensor(3),
        "step": torch.tensor(7),
        "initted": torch.tensor(True),
    }


def under(prefix: str) -> Callable[[State], State]:
    return lambda state: counted({prefix + name: value for name, value in state.items()})


@pytest.mark.parametrize("rename", [dict, basicsr, first_layout])
@pytest.mark.parametrize(
    "wrap",
    [
        counted,
        under("module."),
        under("_orig_mod."),
        under("module._orig_mod."),
        under("generator."),
        lambda state: state | {"epoch": 3, "name": "x"},
        *(
            lambda state, key=key: {
                key: counted(state),
                "epoch": 3,
                "loss": torch.tensor(0.3),
                "scaler": {},
            }
            for key in (
                "params_ema",
                "params",
                "state_dict",
                "generator",
                "model",
                "netG",
                "my_network",
            )
        ),
    ],
)
def test_counters_prefixes_and_dictionaries_around_weights(
    wrap: Callable[[State], object],
    rename: Callable[[State], State],
    make_network: MakeNetwork,
    same_output,
    tmp_path,
) -> None:
    network = make_network()
    torch.save(wrap(rename(network.state_dict())), tmp_path / "x.pth")
    assert same_output(load_generator(tmp_path / "x.pth")[0], network)
    filled = make_network()
    nn.init.zeros_(filled.conv_first.weight)
    load_generator_state(filled, tmp_path / "x.pth")
    assert same_output(filled, network)


def test_a_network_of_ones_own_keeps_its_own_counters(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    network(torch.rand(2, 3, 5, 5))
    state = {f"module._orig_mod.{name}": value for name, value in network.state_dict().items()}
    torch.save({"params": state | {"n_averaged": torch.tensor(9)}}, tmp_path / "x.pth")
    filled = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    load_generator_state(filled, tmp_path / "x.pth")
    assert filled[1].num_batches_tracked == 1
    assert torch.equal(filled[0].weight, network[0].weight)


def test_of_several_networks_without_a_known_key_none_is_guessed(tmp_path: Path) -> None:
    one, other = nn.Conv2d(3, 4, 3).state_dict(), nn.Conv2d(3, 5, 3).state_dict()
    torch.save({"first": one, "second": other}, tmp_path / "x.pth")
    with pytest.raises(
        UserError, match=r"x\.pth: no network's weights \(its keys are first, second\)"
    ):
        read_weights(tmp_path / "x.pth")
    torch.save({"first": one, "epoch": 3}, tmp_path / "x.pth")
    assert torch.equal(read_weights(tmp_path / "x.pth").state["weight"], one["weight"])


def test_a_sector_that_is_lost_is_noticed_by_the_checksum(
    make_network: MakeNetwork, tmp_path: Path
) -> None:
    path, network = tmp_path / "x.pth", make_network(features=32)
    torch.save(network.state_dict(), path)
    content = bytearray(path.read_bytes())
    start = content.find(network.state_dict()["conv_last.weight"].numpy().tobytes())
    assert start > 0
    content[start : start + 512] = bytes(512)
    path.write_bytes(content)
    with pytest.raises(
        UserError, match=r"x\.pth: is damaged: the checksum of its part '\S+' does not match"
    ):
        load_generator(path)


def test_a_file_saved_without_checksums_is_read(
    make_network: MakeNetwork, same_output, tmp_path: Path
) -> None:
    network = make_network()
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(network.state_dict(), tmp_path / "x.pth")
    finally:
        torch.serialization.set_crc32_options(before)
    assert same_output(load_generator(tmp_path / "x.pth")[0], network)


def test_weights_are_written_by_a_suffix_in_any_case(
    make_network: MakeNetwork, same_output, tmp_path: Path
) -> None:
    network = make_network()
    torch.save(network.state_dict(), tmp_path / "x.pth")
    for name in ("OUT.PTH", "OUT.SafeTensors"):
        convert_weights(tmp_path / "x.pth", tmp_path / name)
        assert same_output(load_generator(tmp_path / name)[0], network)


def test_a_file_that_may_not_be_read_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.pth").write_bytes(b"x")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "x.pth")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=r"x\.pth: cannot be read \(Permission denied\)"):
        load_generator(tmp_path / "x.pth")
