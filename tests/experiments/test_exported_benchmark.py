import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from realsr.networks import build_generator
from realsr.weights import save_generator

for module in ("onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(module, reason=f"{module} is not installed")

SCRIPTS = Path(__file__).parents[2] / "experiments/benchmarks"


def test_the_benchmark_of_exported_files_ends_with_its_ratio(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    one_thread: None,
) -> None:
    if not SCRIPTS.is_dir():
        pytest.skip("experiments/ is not in this checkout")
    import onnx

    from realsr.deployment.onnx_graph import to_onnx

    monkeypatch.syspath_prepend(SCRIPTS)
    monkeypatch.delitem(sys.modules, "common", raising=False)
    size = {"name": "rrdb", "features": 4, "blocks": 1, "growth": 4}
    generator = build_generator(size, 2)
    save_generator(tmp_path / "g.safetensors", generator, size, 2)
    for name in ("onnx_fp32", "onnx_int8_entropy"):
        onnx.save(to_onnx(generator), tmp_path / f"{name}.onnx")
    exported = importlib.import_module("exported")
    lr = np.random.default_rng(0).random((1, 3, 20, 24), np.float32)
    forms = exported.open_all(tmp_path, str(tmp_path / "g.safetensors"), 1)
    results = {name: run(lr) for name, run in forms.items()}
    assert list(results) == ["PyTorch fp32", "PyTorch auto", "onnx_fp32", "onnx_int8_entropy"]
    assert np.allclose(results["PyTorch fp32"], results["onnx_fp32"], atol=1e-6)
    taken = exported.take_turns(forms, lr, 2)
    assert all(len(seconds) == 2 and min(seconds) > 0 for seconds in taken.values())

    monkeypatch.setattr(
        exported,
        "take_turns",
        lambda *_: taken | {"onnx_fp32": [3, 2.5], "onnx_int8_entropy": [1, 2]},
    )
    facts = tmp_path / "facts.json"
    given = [str(tmp_path), str(tmp_path / "g.safetensors"), "--threads", "1", "--json", str(facts)]
    monkeypatch.setattr(sys, "argv", ["exported.py", *given])
    exported.main()
    assert json.loads(facts.read_text())["results"]["ratio"] == 0.4
    assert capsys.readouterr().out.splitlines()[-1] == "ratio 0.4"
