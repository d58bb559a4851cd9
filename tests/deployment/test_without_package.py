"""The lines of docs/deploy/deployment.md that run a file without this package, run as they stand there."""

import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from realsr.networks.rrdb import RRDB

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("onnxscript", reason="onnxscript is not installed")

from realsr.deployment.onnx_graph import to_onnx  # noqa: E402 (needs onnx)

DOCS = Path(__file__).parents[2] / "docs/deploy/deployment.md"
ALLOWED = {"cv2", "numpy", "onnxruntime"}


def test_the_lines_of_the_docs(tmp_path: Path, one_thread: None) -> None:
    torch.manual_seed(0)
    network = RRDB(scale=2, features=4, blocks=1, growth=4).eval()
    with torch.no_grad():
        network.conv_last.bias.fill_(0.5)  # about a picture's range
        for parameter in network.parameters():
            parameter.mul_(5 if parameter.ndim > 1 else 1)
    onnx.save(to_onnx(network), tmp_path / "onnx_int8_entropy.onnx")
    photo = np.random.default_rng(0).integers(0, 256, (9, 14, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "photo.png"), photo[..., ::-1])

    lines = re.search(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert lines is not None
    imported = set(re.findall(r"^import (\w+)", lines[1], re.MULTILINE))
    assert imported == ALLOWED
    assert len([line for line in lines[1].splitlines() if line]) <= 10
    refuse = "import sys\nsys.modules['torch'] = sys.modules['realsr'] = None\n"
    subprocess.run([sys.executable, "-c", refuse + lines[1]], cwd=tmp_path, check=True)

    with torch.no_grad():
        wanted = network(torch.from_numpy(photo).permute(2, 0, 1)[None] / 255)[0]
    wanted = (wanted.clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()
    assert wanted.std() > 5
    assert np.abs(cv2.imread(str(tmp_path / "big.png"))[..., ::-1] - wanted).max() <= 1
