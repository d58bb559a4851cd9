import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from realsr.imaging import write_uint8

BENCHMARK = Path(__file__).parents[2] / "experiments/benchmarks/durability.py"


def test_the_benchmark_runs_and_ends_with_its_ratios(
    tmp_path: Path, run_script: Callable[..., str]
) -> None:
    (tmp_path / "photos").mkdir()
    write_uint8(
        tmp_path / "photos/a.png",
        np.random.default_rng(0).integers(0, 256, (64, 72, 3), dtype=np.uint8),
    )
    arguments = (
        "--workers",
        "0",
        "--copies",
        "2",
        "--rounds",
        "1",
        "--blocks",
        "1",
        "--json",
        "out.json",
    )
    printed = run_script(BENCHMARK, "photos", *arguments)
    results = json.loads((tmp_path / "out.json").read_text())["results"]
    assert printed.splitlines()[-2:] == [
        f"ratio_pairs {results['pairs_ratio']}", f"ratio_checkpoint {results['checkpoint_ratio']}"
    ]  # fmt: skip
    ratio = results["pairs_per_second_not_synced"] / results["pairs_per_second_synced"]
    assert results["pairs_ratio"] == pytest.approx(ratio, rel=0.02)
