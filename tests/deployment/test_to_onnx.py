from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from exported_networks import exported_rrdb, rrdb, run_model, run_torch
from realsr.core.errors import UserError
from realsr.deployment.onnx_graph import layers, to_onnx


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (2, 3, 1, 1), (1, 3, 3, 50), (2, 3, 17, 23)])
def test_onnx_computes_what_torch_does_on_any_size(scale: int, shape: tuple[int, ...]) -> None:
    lr = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    wanted = run_torch(rrdb(scale), lr)
    assert wanted.std() > 0.05
    given = run_model(exported_rrdb(scale), lr)
    assert given.dtype == np.float32
    assert given.shape == (shape[0], 3, scale * shape[2], scale * shape[3])
    assert np.abs(given - wanted).max() < 2e-5


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_weights_keep_the_network_s_names_and_values(scale: int) -> None:
    kept = {
        value.name: onnx.numpy_helper.to_array(value)
        for value in exported_rrdb(scale).graph.initializer
    }
    for name, parameter in rrdb(scale).state_dict().items():
        assert np.array_equal(kept[name], parameter.numpy()), name


def test_all_but_the_colours_is_dynamic() -> None:
    model = exported_rrdb(4)
    (given,), (found,) = model.graph.input, model.graph.output
    assert (given.name, found.name) == ("lr", "sr")
    dims = [dim.dim_param or dim.dim_value for dim in given.type.tensor_type.shape.dim]
    assert dims == ["batch", 3, "height", "width"]
    sides = found.type.tensor_type.shape.dim
    assert sides[1].dim_value in (0, 3)
    assert all(sides[axis].dim_param for axis in (0, 2, 3))
    onnx.checker.check_model(model, full_check=True)


def test_no_place_of_this_machine_is_in_a_file() -> None:
    content = exported_rrdb(4).SerializeToString()
    places = (
        str(Path(torch.__file__).parents[1]),
        str(Path(__file__).parents[2]),
        str(Path.home()),
        ".py",
        "site-pack",
    )
    for place in places:
        assert place.encode() not in content, place


def test_layers_of_an_rrdb_in_order_with_all_nodes() -> None:
    model = exported_rrdb(4)
    found = layers(model)
    assert list(found) == [
        "conv_first",
        "RRDB_trunk.0",
        "trunk_conv",
        "upconv1",
        "upconv2",
        "HRconv",
        "conv_last",
    ]
    nodes = [node.name for node in model.graph.node]
    assert [name for names in found.values() for name in names] == nodes
    kinds = {node.name: node.op_type for node in model.graph.node}
    convs = {layer: sum(kinds[name] == "Conv" for name in names) for layer, names in found.items()}
    assert convs == dict.fromkeys(found, 1) | {"RRDB_trunk.0": 15}
    assert [kinds[name] for name in found["HRconv"]] == ["Conv", "LeakyRelu"]


class Own(nn.Module):
    """A network unlike the RRDB: strided and transposed convolutions, a pixel shuffle, a size taken from the input."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.PReLU(8), nn.Conv2d(8, 12, 3, padding=1)
        )
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        wide = torch.nn.functional.interpolate(
            x, size=(2 * x.shape[2], 2 * x.shape[3]), mode="bilinear"
        )
        return wide + self.shuffle(self.body(x))


def test_a_network_of_ones_own_is_exported(random_lr: Tensor) -> None:
    torch.manual_seed(1)
    network = Own()
    model = to_onnx(network)
    assert np.abs(run_model(model, random_lr) - run_torch(network, random_lr)).max() < 1e-5
    assert list(layers(model)) == ["body.0", "body.2"]
    assert network.body[0].weight.requires_grad


class ByValue(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.mean() > 0.5 else x


def test_what_torch_cannot_express_is_told() -> None:
    with pytest.raises(UserError, match=r"^torch cannot express the generator in ONNX \(.+\)$"):
        to_onnx(ByValue())
