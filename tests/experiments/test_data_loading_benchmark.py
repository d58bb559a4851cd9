import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "experiments/benchmarks/data_loading.py"


def test_the_benchmark_runs_and_its_last_line_is_the_ratio(tmp_path: Path) -> None:
    arguments = (
        "--pairs",
        "2",
        "--workers",
        "0",
        "--steps",
        "3",
        "--rounds",
        "1",
        "--json",
        "out.json",
    )
    ended = subprocess.run(
        [sys.executable, BENCHMARK, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    results = json.loads((tmp_path / "out.json").read_text())["results"]
    assert ended.stdout.splitlines()[-1] == f"ratio {results['ratio']}"
    assert results["ratio"] == pytest.approx(
        results["cache_noise_per_second"] / results["png_noise_per_second"], 0.05
    )
