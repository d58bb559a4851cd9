import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from exported_networks import exported_rrdb, rrdb
from realsr.deployment.measure import measure
from realsr.weights import save_generator


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "x.onnx"
    onnx.save(exported_rrdb(2), path)
    return path


def test_a_file_s_time_and_memory_grow_with_the_picture(exported: Path) -> None:
    small, large = (measure(exported, side, 1) for side in (64, 256))
    assert 0 < small.seconds < large.seconds
    assert small.memory is not None
    assert large.memory is not None
    # two or three tensors of 8 channels at the result's size are live at once
    assert large.memory > small.memory
    assert 2 * 8 * 4 * 512**2 < large.memory < 12 * 8 * 4 * 512**2


def test_weights_are_measured_in_torch(tmp_path: Path) -> None:
    save_generator(
        tmp_path / "x.safetensors",
        rrdb(2),
        {"name": "rrdb", "features": 8, "blocks": 1, "growth": 4},
        2,
    )
    cost = measure(str(tmp_path / "x.safetensors"), 32, 1, "weights")
    assert 0 < cost.seconds < 5
    assert cost.memory is not None
    assert 0 < cost.memory < 500e6


def test_a_broken_file_cannot_be_measured(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no network")
    with pytest.raises(
        RuntimeError,
        match=r"x\.onnx could not be measured: \S+x\.onnx: is a text .*not an ONNX file",
    ):
        measure(tmp_path / "x.onnx", 16, 1)


def test_an_exported_file_is_measured_without_torch(exported: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from realsr.deployment.measure import main; "
        "main(sys.argv[1], 16, 1, 'file'); assert 'torch' not in sys.modules"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", code, str(exported)], capture_output=True, text=True
    )
    assert outcome.returncode == 0, outcome.stderr
