import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from realsr.imaging import write_uint8

BENCHMARK = Path(__file__).parents[2] / "experiments/benchmarks/pairs.py"


def test_the_benchmark_runs_and_its_last_line_is_the_ratio(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    write_uint8(
        tmp_path / "photos/a.png",
        np.random.default_rng(0).integers(0, 256, (640, 720, 3), dtype=np.uint8),
    )
    arguments = (
        "--kernel",
        "pool",
        "--workers",
        "0",
        "--copies",
        "1",
        "--rounds",
        "1",
        "--json",
        "out.json",
    )
    ended = subprocess.run(
        [sys.executable, BENCHMARK, "photos", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    results = json.loads((tmp_path / "out.json").read_text())["results"]
    assert ended.stdout.splitlines()[-1] == f"ratio {results['ratio']}"
    assert results["ratio"] == pytest.approx(
        results["pairs_seconds"] / results["decode_encode_seconds"], rel=0.05
    )
