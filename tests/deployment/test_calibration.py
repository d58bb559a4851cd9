import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from exported_networks import exported_rrdb, photo_part, psnr, rrdb, run_model, run_torch
from realsr.deployment import quantise
from realsr.deployment.onnx_graph import layers
from realsr.deployment.quantise import Histogram, Range, choose_ranges, collect_histograms, to_int8

Histograms = dict[str, Histogram]


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return exported_rrdb(2)


@pytest.fixture(scope="module")
def histograms(model: onnx.ModelProto, lrs: list[Tensor]) -> Histograms:
    return collect_histograms(model, [lr.numpy() for lr in lrs])


@pytest.fixture(scope="module")
def minmax(histograms: Histograms) -> dict[str, Range]:
    return choose_ranges(histograms, "minmax")


def test_minmax_is_the_least_and_the_greatest(
    minmax: dict[str, Range], lrs: list[Tensor], model: onnx.ModelProto
) -> None:
    found: dict[str, list[Tensor]] = {}
    network = rrdb(2)
    names = (
        "conv_first",
        "trunk_conv",
        "upconv1",
        "HRconv",
        "conv_last",
    )  # dense blocks call no modules
    hooks = [
        getattr(network, name).register_forward_hook(
            # a copy, since the leaky ReLU that follows is in place
            lambda _, __, output, name=name: found.setdefault(name, []).append(output.clone())
        )
        for name in names
    ]
    for lr in lrs:
        run_torch(network, lr)
    for hook in hooks:
        hook.remove()
    outputs = {
        node.input[1].removesuffix(".weight"): node.output[0]
        for node in model.graph.node
        if node.op_type == "Conv"
    }
    for name, values in found.items():
        together = torch.cat([value.flatten() for value in values])
        low, high = minmax[outputs[name]]
        assert (low, high) == pytest.approx(
            (float(together.min()), float(together.max())), abs=1e-4
        ), name
    whole = torch.stack(lrs)
    assert minmax["lr"] == pytest.approx((float(whole.min()), float(whole.max())))


def test_all_that_is_quantised_has_a_range(
    minmax: dict[str, Range], model: onnx.ModelProto
) -> None:
    weights = set(rrdb(2).state_dict())
    expected = set[str]()
    for node in model.graph.node:
        if node.op_type in ("Conv", "LeakyRelu", "Concat"):
            expected |= {name for name in (*node.input, *node.output) if name not in weights}
    assert expected <= set(minmax)
    assert len(expected) > 40


def test_percentile_and_entropy_lie_inside(
    histograms: Histograms, minmax: dict[str, Range]
) -> None:
    few = {name: histograms[name] for name in list(histograms)[:12:2]}  # entropy takes its time
    for method, seen in (("percentile", histograms), ("entropy", few)):
        ranges = choose_ranges(seen, method)
        assert list(ranges) == list(seen)
        inside = 0
        for name, (low, high) in ranges.items():
            assert minmax[name][0] <= low <= high <= minmax[name][1]
            inside += bool(low > minmax[name][0] or high < minmax[name][1])
        assert inside > len(ranges) / 3, method


def test_entropy_clips_an_outlier_where_minmax_does_not() -> None:
    values = np.random.default_rng(0).normal(0, 1, 100_000).astype(np.float32)
    values = np.append(values, np.float32(40))
    counts, edges = np.histogram(values, 1024, range=(-40, 40))
    found = {"x": (counts, edges.astype(np.float32), values.min(), values.max())}
    assert choose_ranges(found, "minmax")["x"] == (values.min(), 40)
    low, high = choose_ranges(found, "entropy")["x"]
    assert -6 < low < -2
    assert 2 < high < 8
    # 0.0005 % of so many on each side are half a value
    low, high = choose_ranges(found, "percentile")["x"]
    assert -5 < low < -3
    assert 3 < high <= 40


def test_one_photo_after_another_is_as_good_as_all_at_once(
    histograms: Histograms, model: onnx.ModelProto, lrs: list[Tensor]
) -> None:
    turned = collect_histograms(model, [lr.numpy() for lr in reversed(lrs)])
    for name, found in histograms.items():
        assert turned[name][2:] == found[2:]
        assert turned[name][0].sum() == found[0].sum()


def test_ranges_do_not_depend_on_the_number_of_workers(
    histograms: Histograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for workers in (0, 2):
        monkeypatch.setattr(
            quantise, "count_workers", lambda items, asked, workers=workers: workers
        )
        found.append(choose_ranges(dict(list(histograms.items())[:3]), "entropy"))
    assert found[0] == found[1]
    assert list(found[0]) == list(histograms)[:3]


def test_int8_around_all_convolutions_but_those_kept(
    model: onnx.ModelProto, minmax: dict[str, Range]
) -> None:
    kept = ["conv_first", "HRconv"]
    nodes = layers(model)
    int8 = to_int8(model, minmax, [node for name in kept for node in nodes[name]])
    assert model == exported_rrdb(2)
    made_by = {output: node for node in int8.graph.node for output in node.output}
    values = {value.name: onnx.numpy_helper.to_array(value) for value in int8.graph.initializer}
    state, quantised = rrdb(2).state_dict(), 0
    convs = {node.name: node for node in int8.graph.node if node.op_type == "Conv"}
    assert len(convs) == 20
    for layer, names in nodes.items():
        for conv in (convs[name] for name in names if name in convs):
            if layer in kept:
                assert np.array_equal(values[conv.input[1]], state[f"{layer}.weight"].numpy())
                continue
            quantised += 1
            given, weight = made_by[conv.input[0]], made_by[conv.input[1]]
            assert given.op_type == weight.op_type == "DequantizeLinear"
            assert made_by[given.input[0]].op_type == "QuantizeLinear"
            assert values[given.input[2]].dtype == np.uint8
            integers, scales = values[weight.input[0]], values[weight.input[1]]
            assert integers.dtype == np.int8
            assert scales.shape == (len(integers),)
            name = weight.input[0].removesuffix("_quantized")
            back = integers * scales[:, None, None, None]
            assert np.abs(back - state[name].numpy()).max() <= scales.max() / 2 * 1.01
    assert quantised == 18
    lr = photo_part("chelsea", 100, 150, 40, 48)
    wanted = run_torch(rrdb(2), lr)
    found = psnr(run_model(int8, lr), wanted)
    assert 33 < found < 55
    everything = to_int8(model, minmax, [])
    assert psnr(run_model(everything, lr), wanted) < found


def test_ranges_decide_what_is_clipped(
    model: onnx.ModelProto, minmax: dict[str, Range], lrs: list[Tensor]
) -> None:
    """Half the range of the last convolution's input costs much more than INT8 does."""
    read = model.graph.node[-1].input[0]
    narrow = minmax | {read: tuple(np.float32(bound / 4) for bound in minmax[read])}
    wanted = run_torch(rrdb(2), lrs[0])
    good, bad = (
        psnr(run_model(to_int8(model, ranges, []), lrs[0]), wanted) for ranges in (minmax, narrow)
    )
    assert bad < good - 6


def test_it_logs_and_prints_nothing(
    model: onnx.ModelProto,
    minmax: dict[str, Range],
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    to_int8(model, minmax, [])
    assert caplog.records == []
    assert capsys.readouterr() == ("", "")
