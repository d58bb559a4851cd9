import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from tiny_generator import UNSEEN, enlarge, random_lr, random_photos, tiny_generator

from config_files import config_of
from realsr.core.errors import UserError
from realsr.deployment import network_files
from realsr.deployment.check import similarity
from realsr.deployment.export_folder import File, Int8Config
from realsr.deployment.measure import open_file, openvino_core
from realsr.deployment.network_files import RT_INFO, FileMaker, write_openvino
from realsr.inference.onnx_files import OnnxFacts, read_facts

pytest.importorskip("openvino", reason="OpenVINO is not installed (extra openvino)")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, File]:
    """Both formats, after the INT8 ONNX file that one of them is made of."""
    int8 = config_of(Int8Config, methods=["minmax", "percentile"])
    maker = FileMaker(tiny_generator(), tmp_path_factory.mktemp("made"), int8, random_photos())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            network_files, "collect_histograms", count := _Counted(network_files.collect_histograms)
        )
        files = [
            file for name in ("onnx_int8", "openvino", "openvino_int8") for file in maker.make(name)
        ]
    assert count.calls == 1
    return {file.path.stem: file for file in files}


@pytest.mark.parametrize("size", UNSEEN)
def test_float32_is_the_network_and_not_bf16(size: tuple[int, int], made: dict[str, File]) -> None:
    lr = random_lr(size)
    run = open_file(made["openvino"].path, 1)
    result = run(lr)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, enlarge(tiny_generator().network, lr), atol=2e-6)
    before = result.copy()
    run(1 - lr)
    assert np.array_equal(result, before)  # not a view of memory that the next picture takes


def test_int8_is_that_of_the_onnx_file(made: dict[str, File]) -> None:
    lr = random_photos()[0].numpy()
    result = open_file(made["openvino_int8"].path, 1)(lr)
    assert similarity(result, enlarge(tiny_generator().network, lr)) > 25
    assert similarity(result, open_file(made["onnx_int8_minmax"].path, 1)(lr)) > 40
    model = openvino_core().read_model(made["openvino_int8"].path)
    weights = [
        op.get_element_type().get_type_name()
        for op in model.get_ops()
        if op.get_type_name() == "Constant"
    ]
    assert weights.count("i8") >= 18  # of 19 convolutions; the first stays in float32
    assert (made["openvino_int8"].precision, made["openvino_int8"].calibration) == (
        "int8",
        "minmax",
    )
    assert list(made["openvino_int8"].float32_layers) == ["conv_first"]


SIGNALLED = """
import signal, sys
from pathlib import Path
from realsr.deployment.measure import open_file, openvino_core
signal.signal(signal.SIGUSR1, lambda *_: print("heard"))
opened = [open_file(Path(name), 1) for name in sys.argv[1:]]
while opened:
    opened.pop(0)  # the first opened ends first
signal.raise_signal(signal.SIGUSR1)
"""


def test_a_signal_is_heard_after_the_models_have_ended(made: dict[str, File]) -> None:
    paths = [str(made[name].path) for name in ("openvino", "openvino_int8")]
    command = [sys.executable, "-c", SIGNALLED, *paths]
    outcome = subprocess.run(command, capture_output=True, text=True)
    assert (outcome.returncode, outcome.stdout) == (0, "heard\n"), outcome.stderr


def test_two_parts_whose_weights_are_whole(made: dict[str, File]) -> None:
    file = made["openvino"]
    assert [part.name for part in file.parts] == ["openvino.xml", "openvino.bin"]
    parameters = sum(parameter.numel() for parameter in tiny_generator().network.parameters())
    assert 4 * parameters <= file.parts[1].stat().st_size < 4 * parameters + 4096
    assert file.parts[0].parent.as_posix() not in file.parts[0].read_text()


@pytest.mark.parametrize(
    ("name", "precision"), [("openvino", "fp32"), ("openvino_int8", "int8 (minmax)")]
)
def test_facts_are_read_back(name: str, precision: str, made: dict[str, File]) -> None:
    facts = read_facts(
        dict(openvino_core().read_model(made[name].path).get_rt_info([RT_INFO]).value)
    )
    wanted = OnnxFacts(4, precision, tiny_generator().bytes_per_pixel, "5" * 64, facts.made_by)
    assert facts == wanted
    assert facts.made_by.startswith("realsr ")


def test_files_that_cannot_be_run(
    tmp_path: Path, made: dict[str, File], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = tmp_path / "alone.xml"
    for content in (b"", b"rubbish", made["openvino"].path.read_bytes()):
        alone.write_bytes(content)
        with pytest.raises(
            UserError,
            match=r"alone.xml: damaged, not an OpenVINO model, or the .bin file is missing",
        ):
            open_file(alone, 1)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match="needs openvino: pip install openvino"):
        open_file(made["openvino"].path, 1)
    with pytest.raises(
        UserError, match=r"x.pth: expected a file whose name ends in .onnx, .xml, .param"
    ):
        open_file(tmp_path / "x.pth", 1)


def test_what_openvino_does_not_know(tmp_path: Path) -> None:
    tensors = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, (1,)) for name in ("lr", "sr")
    ]
    graph = helper.make_graph(
        [helper.make_node("Unheard", ["lr"], ["sr"])], "graph", tensors[:1], tensors[1:]
    )
    with pytest.raises(UserError, match="OpenVINO cannot express the generator"):
        write_openvino(helper.make_model(graph), {}, tmp_path / "x.xml")


class _Counted:
    def __init__(self, function: object) -> None:
        self.function, self.calls = function, 0

    def __call__(self, *arguments: object) -> object:
        self.calls += 1
        return self.function(*arguments)
