import json
from collections.abc import Callable
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "experiments/benchmarks/data_loading.py"


def test_the_benchmark_runs_and_its_last_line_is_the_ratio(
    tmp_path: Path, run_script: Callable[..., str]
) -> None:
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
    printed = run_script(BENCHMARK, *arguments)
    results = json.loads((tmp_path / "out.json").read_text())["results"]
    assert printed.splitlines()[-1] == f"ratio {results['ratio']}"
    assert results["ratio"] == pytest.approx(
        results["cache_noise_per_second"] / results["png_noise_per_second"], 0.05
    )
