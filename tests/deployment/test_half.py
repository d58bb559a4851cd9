import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from exported_networks import exported_rrdb, psnr, run_model
from realsr.deployment.onnx_graph import layers, to_half, with_rounding

EPSILON = 2**-11  # of fp16's 11 bits of mantissa: the largest relative error of rounding


@pytest.fixture(scope="module")
def half() -> onnx.ModelProto:
    model = exported_rrdb(4)
    found = layers(model)
    return to_half(model, [*found["conv_first"], *found["conv_last"]])


def test_all_but_the_ends_is_fp16(half: onnx.ModelProto) -> None:
    exact = exported_rrdb(4)
    (given,), (found,) = half.graph.input, half.graph.output
    assert [value.type.tensor_type.elem_type for value in (given, found)] == [TensorProto.FLOAT] * 2
    was = {value.name: value.data_type for value in exact.graph.initializer}
    now = {value.name: value.data_type for value in half.graph.initializer}
    weights = [name for name in was if name.endswith((".weight", ".bias"))]
    assert len(weights) == 42
    for name in weights:
        assert was[name] == TensorProto.FLOAT
        ends = name.startswith(("conv_first", "conv_last"))
        assert now[name] == (TensorProto.FLOAT if ends else TensorProto.FLOAT16), name
    kinds = {
        value.name: value.type.tensor_type.elem_type
        for value in onnx.shape_inference.infer_shapes(half).graph.value_info
    }
    produced = {node.name: [kinds.get(name) for name in node.output] for node in half.graph.node}
    assert produced["node_conv2d"] == [TensorProto.FLOAT]
    assert produced["node_conv2d_1"] == produced["node_leaky_relu"] == [TensorProto.FLOAT16]
    onnx.checker.check_model(half, full_check=True)


def test_half_the_bytes() -> None:
    exact = exported_rrdb(4)
    sizes = [
        sum(len(value.raw_data) for value in model.graph.initializer)
        for model in (exact, to_half(exact, []))
    ]
    assert sizes[1] == pytest.approx(sizes[0] / 2, rel=0.01)
    assert exact == exported_rrdb(4)  # and the given one stays as it was


def tiny() -> onnx.ModelProto:
    """((lr * 1.2345 + 0.377) * 3.21 - lr) * 0.7654: every operation has something to round."""
    names = {"a": 1.2345, "b": 0.377, "c": 3.21, "d": 0.7654}
    weights = [
        numpy_helper.from_array(np.array([value], np.float32), name)
        for name, value in names.items()
    ]
    steps = [
        ("Mul", "lr", "a", "t1"),
        ("Add", "t1", "b", "t2"),
        ("Mul", "t2", "c", "t3"),
        ("Sub", "t3", "lr", "t4"),
        ("Mul", "t4", "d", "sr"),
    ]
    nodes = [helper.make_node(kind, [x, y], [out], name=out) for kind, x, y, out in steps]
    shape = ["batch", 3, "height", "width"]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("lr", "sr")]
    graph = helper.make_graph(nodes, "tiny", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def rounded(x: np.ndarray | float) -> np.ndarray:
    return np.float32(np.float16(x))


def test_rounding_is_that_of_each_operation(random_lr: Tensor) -> None:
    half = to_half(tiny(), [])
    lr = random_lr.numpy()
    x = rounded(lr)
    a, b, c, d = (rounded(value) for value in (1.2345, 0.377, 3.21, 0.7654))
    wanted = rounded(rounded(rounded(rounded(rounded(x * a) + b) * c) - x) * d)
    given = run_model(with_rounding(half), lr)
    assert given.dtype == np.float32
    assert np.array_equal(given, wanted)
    # onnxruntime on a CPU computes the file itself in float32, which is why the form above is needed
    flattered = run_model(half, lr)
    assert (flattered != wanted).mean() > 0.2
    exact = run_model(tiny(), lr)
    assert np.abs(flattered - exact).mean() < np.abs(wanted - exact).mean()


def test_layers_that_are_kept_are_not_rounded(random_lr: Tensor) -> None:
    lr = random_lr.numpy()
    half = to_half(tiny(), ["t1", "t2", "sr"])
    x = rounded(lr)
    t1 = lr * np.float32(1.2345)  # from the input as it is, and handed on as it is
    t2 = rounded(t1 + np.float32(0.377))  # for t3, which is in fp16
    t4 = rounded(rounded(t2 * rounded(3.21)) - x)
    given = run_model(with_rounding(half), lr)
    assert np.array_equal(given, t4 * np.float32(0.7654))
    assert not np.array_equal(given, rounded(given))


def test_casts_of_other_types_stay(random_lr: Tensor) -> None:
    """A network may compute with integers, which rounding must leave alone."""
    model = tiny()
    model.graph.node[-1].output[0] = "t5"
    model.graph.node.extend(
        [
            helper.make_node("Cast", ["t5"], ["whole"], name="whole", to=TensorProto.INT64),
            helper.make_node("Cast", ["whole"], ["sr"], name="back", to=TensorProto.FLOAT),
        ]
    )
    lr = random_lr.numpy()
    wanted = run_model(model, lr)
    assert set(np.unique(wanted)) >= {0, 1, 2}
    given = run_model(with_rounding(to_half(model, [])), lr)
    assert (given == wanted).mean() > 0.99  # but for those that rounding moves over an integer


def test_it_differs_from_float32_by_fp16_s_precision(
    half: onnx.ModelProto, lrs: list[Tensor]
) -> None:
    exact = run_model(exported_rrdb(4), lrs[0])
    given = run_model(with_rounding(half), lrs[0])
    error = np.abs(given - exact)
    assert EPSILON / 20 < error.mean() / np.abs(exact).mean() < 4 * EPSILON
    assert 60 < psnr(given, exact) < 80
