import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from exported_networks import exported_rrdb, photo_part, rrdb, run_torch
from realsr.core import machine
from realsr.core.errors import UserError
from realsr.inference.model import load_model
from realsr.inference.onnx_files import (
    CONVENTION,
    OnnxFacts,
    _int8_overflows,
    open_session,
    read_facts,
    run_session,
)
from realsr.inference.tiling import Tiles, is_out_of_memory, measure_bytes, upscale_image

CPU = torch.device("cpu")
FACTS = OnnxFacts(2, "fp32", 1234.5, "ab12", "realsr 0")

pytestmark = pytest.mark.usefixtures("one_thread")
Save = Callable[..., Path]


def nearest() -> onnx.ModelProto:
    """Each pixel four times; its factors are weights, which a file may say to be elsewhere."""
    factors = numpy_helper.from_array(np.float32([1, 1, 2, 2]), "factors")
    node = helper.make_node("Resize", ["lr", "", "factors"], ["sr"], mode="nearest")
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, f"h{name}", f"w{name}"])
        for name in ("lr", "sr")
    ]
    graph = helper.make_graph([node], "nearest", ends[:1], ends[1:], [factors])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def write(
        model: onnx.ModelProto, metadata: dict[str, str] | None = None, name: str = "x.onnx"
    ) -> Path:
        helper.set_model_props(model, FACTS.as_metadata() if metadata is None else metadata)
        (tmp_path / name).write_bytes(model.SerializeToString())
        return tmp_path / name

    return write


def test_it_gives_what_torch_gives(save: Save) -> None:
    model = load_model(str(save(exported_rrdb(2))), CPU, scale=2)
    assert (model.scale, model.device) == (2, CPU)
    x = torch.rand(2, 3, 11, 7)
    for lr in (
        x,
        x[:, :, ::2, 1:],
        x[:1, :1].expand(-1, 3, -1, -1),
    ):  # tiles of a gray photo are the last kind
        given = model.run(lr)
        assert given.dtype == torch.float32
        assert np.abs(given.numpy() - run_torch(rrdb(2), lr)).max() < 1e-5


def test_tiles_agree_with_the_whole(save: Save) -> None:
    model = load_model(save(exported_rrdb(2)), CPU)
    photo = photo_part("astronaut", 60, 100, 150, 131)[0]
    whole = upscale_image(model, photo, Tiles(256, 48))
    assert torch.equal(whole, model.run(photo[None])[0])
    tiled = upscale_image(model, photo, Tiles(112, 48))
    assert tiled.shape == (3, 300, 262)
    assert (tiled - whole).abs().max() < 1e-4


def test_facts_come_back(save: Save) -> None:
    metadata = {entry.key: entry.value for entry in onnx.load(save(nearest())).metadata_props}
    assert metadata == FACTS.as_metadata()
    assert metadata.items() >= CONVENTION.items()
    assert metadata["scale"] == "2"
    assert read_facts(metadata) == FACTS
    assert read_facts(metadata | {"note": "more"}) == FACTS


@pytest.mark.parametrize(
    "changed",
    [
        {"range": "0..255"}, {"colours": "BGR"}, {"layout": "NHWC"}, {"scale": "0"}, {"scale": "two"}, {"scale": None},
        {"bytes_per_pixel": "-1"}, {"bytes_per_pixel": "nan"}, {"bytes_per_pixel": "inf"}, {"bytes_per_pixel": None},
        {"precision": None}, {"output": None},
    ],
)  # fmt: skip
def test_metadata_of_other_programs_is_refused(changed: dict[str, str | None], save: Save) -> None:
    metadata = {
        key: value for key, value in (FACTS.as_metadata() | changed).items() if value is not None
    }
    with pytest.raises(ValueError, match=r"its metadata is not what realsr.export writes"):
        read_facts(metadata)
    with pytest.raises(
        UserError, match=r"x.onnx: cannot be used as a model .*; expected a file of realsr.export"
    ):
        load_model(save(nearest(), metadata), CPU)


def test_files_that_are_no_network_are_refused(save: Save, tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "was_run"),)

    whole = save(exported_rrdb(2)).read_bytes()
    contents = {
        "empty": b"", "text": b"no network", "cut": whole[: len(whole) // 2], "pickle": pickle.dumps(Runs()),
        "zeros": bytes(1000), "png": b"\x89PNG\r\n\x1a\n" + bytes(64),
    }  # fmt: skip
    for name, content in contents.items():
        (tmp_path / f"{name}.onnx").write_bytes(content)
        with pytest.raises(
            UserError,
            match=rf"{name}.onnx: (is .*no.* ONNX file|is damaged|holds Python objects|is empty)",
        ):
            load_model(tmp_path / f"{name}.onnx", CPU)
    assert not (tmp_path / "was_run").exists()
    torch.save({"x": torch.zeros(1)}, tmp_path / "torch.onnx")
    with pytest.raises(UserError, match=r"torch.onnx: not an RRDB generator"):  # by its content
        load_model(tmp_path / "torch.onnx", CPU)


def test_a_network_of_other_names_is_refused(save: Save) -> None:
    """Its metadata may say what it likes."""
    model = nearest()
    model.graph.input[0].name = model.graph.node[0].input[0] = "image"
    with pytest.raises(
        UserError, match=r"x.onnx: cannot be used .*input and output are image, sr, not lr and sr\)"
    ):
        load_model(save(model), CPU)


@pytest.mark.parametrize("place", ["w.bin", "models/w.bin", "../{name}/w.bin", "{folder}/w.bin"])
def test_weights_in_other_files_are_not_read(
    place: str, save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither beside the file nor in the current folder, where onnxruntime looks for them."""
    weight = np.ones((3, 3, 1, 1), np.float32)
    (tmp_path / "models").mkdir()
    for folder in (tmp_path, tmp_path / "models"):
        (folder / "w.bin").write_bytes(weight.tobytes())
    model = nearest()
    model.graph.node[0].output[0] = "large"
    model.graph.node.append(helper.make_node("Conv", ["large", "w"], ["sr"]))
    elsewhere = numpy_helper.from_array(weight, "w")
    elsewhere.ClearField("raw_data")
    elsewhere.data_location = TensorProto.EXTERNAL
    location = place.format(folder=tmp_path, name=tmp_path.name)
    for key, value in {"location": location, "offset": "0", "length": "36"}.items():
        elsewhere.external_data.add(key=key, value=value)
    model.graph.initializer.append(elsewhere)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError, match=r"x.onnx: has its weights in other files: save it as one file"
    ):
        load_model(save(model), CPU)
    with pytest.raises(
        UserError, match=r"x.onnx: has its weights in other files: save it as one file"
    ):
        load_model(save(model, name="models/x.onnx"), CPU)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_its_precision_cannot_be_chosen(precision: str, save: Save) -> None:
    path = save(nearest())
    with pytest.raises(UserError, match=f"precision={precision}"):
        load_model(path, CPU, precision)
    for allowed in ("auto", "fp32"):
        assert load_model(path, CPU, allowed).scale == 2


def test_another_scale_is_refused(save: Save) -> None:
    with pytest.raises(UserError, match=r"x.onnx: trained for scale 2, but scale=4 was set"):
        load_model(save(nearest()), CPU, scale=4)


def test_without_onnxruntime_it_is_named(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(nearest())
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        UserError,
        match=r"x.onnx: running ONNX files needs onnxruntime: pip install 'realsr\[onnx\]'",
    ):
        load_model(path, CPU)


def test_what_it_takes_a_pixel_is_what_the_file_tells(save: Save) -> None:
    model = load_model(save(nearest()), CPU)
    assert model.bytes_per_pixel == 1234.5
    assert measure_bytes(model) == 1234.5


def test_onnxruntime_s_lack_of_memory_is_known_as_such(save: Save) -> None:
    """A result of many terabytes is asked for."""
    model = nearest()
    model.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.float32([1, 1, 1 << 20, 1 << 20]), "factors")
    )
    path = save(model)
    session, _ = open_session(path, 1)
    with pytest.raises(RuntimeError) as caught:
        run_session(session, np.zeros((1, 3, 4, 4), np.float32), 10)
    assert is_out_of_memory(caught.value)
    with pytest.raises(UserError, match="a tile of 16x16 pixels fails"):
        load_model(path, CPU)


def test_other_errors_of_onnxruntime_are_not_lack_of_memory(save: Save) -> None:
    loaded = load_model(save(nearest()), CPU)
    with pytest.raises(RuntimeError, match=r"(?i)dimension|channel|expected") as caught:
        loaded.run(torch.zeros(1, 4, 5, 5))
    assert not is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    ("flags", "overflows"),
    [
        ("fpu avx2 avx512f", True),
        ("avx2 avx512f avx512_vnni", False),
        ("avx2 avx_vnni", False),
        ("sse4_1", False),
    ],
)
def test_the_exact_way_of_int8_is_for_processors_that_need_it(
    flags: str, overflows: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    assert not _int8_overflows()
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags\t\t: {flags}\n")
    assert _int8_overflows() is overflows
