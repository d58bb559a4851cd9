import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from realsr.imaging import write_uint8

SCRIPTS = Path(__file__).parents[2] / "experiments/benchmarks"


def test_the_noise_benchmark_runs_and_ends_with_its_ratio(tmp_path, monkeypatch, capsys):
    if not SCRIPTS.is_dir():
        pytest.skip("experiments/ is not in this checkout")
    photos = tmp_path / "photos"
    photos.mkdir()
    photo = np.random.default_rng(0).integers(118, 123, (64, 96, 3), dtype=np.uint8)
    write_uint8(photos / "a.png", photo)
    monkeypatch.syspath_prepend(SCRIPTS)
    arguments = [
        str(photos),
        "--workers",
        "0",
        "--rounds",
        "2",
        "--size",
        "32",
        "--json",
        str(tmp_path / "out.json"),
    ]
    monkeypatch.setattr(sys, "argv", ["noise.py", *arguments])
    importlib.import_module("noise").main()
    results = json.loads((tmp_path / "out.json").read_text())["results"]
    assert (results["photos"], results["patches"]) == (2, 12)
    assert capsys.readouterr().out.splitlines()[-1] == f"ratio {results['ratio']}"
