import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from realsr.imaging import write_uint8

BENCHMARK = Path(__file__).parents[2] / "experiments/benchmarks/pairs.py"


def test_the_benchmark_runs_and_its_last_line_is_the_ratio(
    tmp_path: Path, run_script: Callable[..., str]
) -> None:
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
    printed = run_script(BENCHMARK, "photos", *arguments)
    results = json.loads((tmp_path / "out.json").read_text())["results"]
    assert printed.splitlines()[-1] == f"ratio {results['ratio']}"
    assert results["ratio"] == pytest.approx(
        results["pairs_seconds"] / results["decode_encode_seconds"], rel=0.05
    )
