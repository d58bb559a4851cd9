import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from official_models import Published
from realsr.core.errors import UserError
from realsr.weights import convert_weights, load_generator, save_generator
from realsr.weights.layouts import to_first_layout, to_rrdb_names
from realsr.weights.sources import find_weights

MakeNetwork = Callable[..., nn.Module]


def test_the_published_names_of_the_first_layout(make_network: MakeNetwork) -> None:
    names = to_first_layout(make_network(4, blocks=3).state_dict()).keys()
    assert {name.removesuffix(".weight") for name in names if ".sub." not in name and name.endswith(".weight")} == {
        "model.0", "model.3", "model.6", "model.8", "model.10",
    }  # fmt: skip
    assert {
        "model.1.sub.3.bias",
        "model.1.sub.0.RDB1.conv1.0.weight",
        "model.1.sub.2.RDB3.conv5.0.bias",
    } <= names
    assert "model.7.weight" in to_first_layout(make_network(2).state_dict())


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_the_first_layout_and_back_is_the_same(scale: int, make_network: MakeNetwork) -> None:
    state = make_network(scale, blocks=3).state_dict()
    back = to_rrdb_names(to_first_layout(state))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], value) for name, value in state.items())


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
@pytest.mark.parametrize("name", ["x.pth", "new/x.safetensors"])
def test_what_is_written_loads_as_the_same(
    name: str, scale: int, make_network: MakeNetwork, tmp_path: Path
) -> None:
    network = make_network(scale, blocks=3)
    torch.save({"params_ema": network.state_dict()}, tmp_path / "source.pth")
    config, found = convert_weights(tmp_path / "source.pth", tmp_path / name)
    assert (config, found) == ({"name": "rrdb", "features": 6, "blocks": 3, "growth": 4}, scale)
    back, found = load_generator(tmp_path / name)
    assert found == scale
    assert all(
        torch.equal(value, network.state_dict()[key]) for key, value in back.state_dict().items()
    )
    assert (
        sorted(path.name for path in (tmp_path / name).parent.iterdir() if path.is_file())[-1]
        == Path(name).name
    )
    for output in ("once.pth", "again.pth"):
        convert_weights(tmp_path / name, tmp_path / output)
    assert (tmp_path / "once.pth").read_bytes() == (tmp_path / "again.pth").read_bytes()


def test_what_a_run_told_is_kept(make_network: MakeNetwork, tmp_path: Path) -> None:
    size = {"name": "rrdb", "features": 6, "blocks": 2, "growth": 4}
    save_generator(tmp_path / "best.safetensors", make_network(), size, 4, {"step": 7})
    convert_weights(tmp_path / "best.safetensors", tmp_path / "x.safetensors")
    with safe_open(tmp_path / "x.safetensors", framework="pt") as content:
        notes = json.loads(content.metadata()["realsr"])
    del notes["origin"]
    assert notes == {"generator": size, "scale": 4, "step": 7}


def test_a_network_of_ones_own_goes_to_safetensors_alone_and_its_code_is_not_run(
    tmp_path: Path,
) -> None:
    network, config = nn.Conv2d(3, 3, 1), {"name": "no_such_module.make", "width": 2}
    save_generator(tmp_path / "own.safetensors", network, config, 2)
    assert convert_weights(tmp_path / "own.safetensors", tmp_path / "x.safetensors") == (config, 2)
    x, own = (load_file(tmp_path / f"{name}.safetensors") for name in ("x", "own"))
    assert all(torch.equal(x[key], own[key]) for key in x | own)
    with pytest.raises(
        UserError, match=r"own\.safetensors: .*no_such_module\.make.*set output=FILE\.safetensors"
    ):
        convert_weights(tmp_path / "own.safetensors", tmp_path / "x.pth")
    assert not (tmp_path / "x.pth").exists()


def test_what_cannot_be_written_is_told_before_it_is_read(
    make_network: MakeNetwork, tmp_path: Path
) -> None:
    torch.save(make_network().state_dict(), tmp_path / "x.pth")
    with pytest.raises(
        UserError, match=r"x\.onnx: expected a file name that ends in \.safetensors or \.pth"
    ):
        convert_weights("nowhere", tmp_path / "x.onnx")
    before = (tmp_path / "x.pth").read_bytes()
    with pytest.raises(UserError, match=r"x\.pth: already exists; set overwrite=true"):
        convert_weights(tmp_path / "x.pth", tmp_path / "x.pth")
    assert (tmp_path / "x.pth").read_bytes() == before
    convert_weights(tmp_path / "x.pth", tmp_path / "x.pth", overwrite=True)
    assert "model.0.weight" in torch.load(tmp_path / "x.pth", weights_only=True)


def test_scale_3_is_that_of_the_metadata(
    make_network: MakeNetwork, same_output, tmp_path: Path
) -> None:
    """Its tensors have the names and shapes of scale 2, so a file without metadata is of scale 2."""
    network, size = make_network(3), {"name": "rrdb", "features": 6, "blocks": 2, "growth": 4}
    save_generator(tmp_path / "x.safetensors", network, size, 3)
    convert_weights(tmp_path / "x.safetensors", tmp_path / "y.safetensors")
    generator, scale = load_generator(tmp_path / "y.safetensors")
    assert scale == 3
    assert same_output(generator, network)
    with pytest.raises(
        UserError, match=r"x\.safetensors: .* scale 3 .* set output=FILE\.safetensors"
    ):
        convert_weights(tmp_path / "x.safetensors", tmp_path / "y.pth")
    torch.save(network.state_dict(), tmp_path / "x.pth")
    assert load_generator(tmp_path / "x.pth")[1] == 2
    for recorded in (1, 4):
        save_generator(tmp_path / "x.safetensors", network, size, recorded)
        with pytest.raises(UserError, match=r"its tensors show .* at scale 2, its metadata"):
            load_generator(tmp_path / "x.safetensors")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("scale", [1, 2, 4, 8])
@torch.no_grad()
def test_spandrel_reads_it_as_the_same_network(
    scale: int, suffix: str, make_network: MakeNetwork, tmp_path: Path
) -> None:
    spandrel = pytest.importorskip("spandrel", reason="the extra `spandrel` is not installed")
    network = make_network(scale, features=16, growth=32)  # spandrel knows growth 32 alone
    for parameter in network.parameters():
        parameter.mul_(0.3)
    torch.save(network.state_dict(), tmp_path / "source.pth")
    convert_weights(tmp_path / "source.pth", tmp_path / f"x{suffix}")
    read = spandrel.ModelLoader().load_from_file(tmp_path / f"x{suffix}")
    assert (read.scale, read.architecture.id) == (scale, "ESRGAN")
    lr = torch.rand(1, 3, 12, 9)
    assert (
        read.model.eval().double()(lr.double()) - network.double()(lr.double())
    ).abs().max() < 1e-12
    assert (read.model.float()(lr) - network.float()(lr)).abs().max() < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["df2k", "df2k_jpeg", "realesrgan_x4plus", "realesrgan_x4plus_anime"]
)
@torch.no_grad()
def test_spandrel_reads_the_published_models(name: str, tmp_path: Path) -> None:
    spandrel = pytest.importorskip("spandrel", reason="the extra `spandrel` is not installed")
    data = pytest.importorskip(
        "skimage.data", reason="scikit-image's photographs are not installed"
    )
    try:
        find_weights(name)
    except UserError as error:
        pytest.skip(str(error))
    convert_weights(name, tmp_path / "x.pth")
    lr = torch.from_numpy(data.chelsea()[100:148, 120:180].transpose(2, 0, 1) / 255).float()[None]
    read = spandrel.ModelLoader().load_from_file(tmp_path / "x.pth").model.eval()
    # In float32 the order of the sums shows: up to 3e-6 on this photo, more on noise, which these networks amplify.
    assert (read(lr) - load_generator(name)[0](lr)).abs().max() < 1e-5
    assert (
        read.double()(lr.double()) - load_generator(name)[0].double()(lr.double())
    ).abs().max() < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("name", ["df2k", "realesrgan_x4plus", "realesrgan_x4plus_anime"])
@torch.no_grad()
def test_ncnn_has_the_output_of_the_models_of_data_packages(
    name: str, published: Published
) -> None:
    ncnn = pytest.importorskip("ncnn", reason="ncnn is not installed (extra ncnn)")
    data = pytest.importorskip(
        "skimage.data", reason="scikit-image's photographs are not installed"
    )
    param = find_weights(published(name))
    net = ncnn.Net()
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.load_param(str(param))
    net.load_model(str(param.with_suffix(".bin")))
    lr = (data.chelsea()[100:148, 120:180].transpose(2, 0, 1) / 255).astype(np.float32)
    lr = np.ascontiguousarray(lr)  # ncnn's Mat does not copy it
    extractor = net.create_extractor()
    extractor.input(net.input_names()[0], ncnn.Mat(lr))
    status, sr = extractor.extract(net.output_names()[0])
    assert status == 0
    ours = load_generator(name)[0](torch.from_numpy(lr)[None])[0]
    assert np.abs(np.array(sr) - ours.numpy()).max() < 1e-5
