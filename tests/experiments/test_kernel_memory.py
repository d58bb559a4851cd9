import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "experiments/benchmarks/kernel_memory.py"


@pytest.mark.slow
def test_the_benchmark_of_memory_tells_a_peak(tmp_path: Path) -> None:
    arguments = [
        "--photos",
        "2",
        "--megapixels",
        "0.02",
        "--iterations",
        "2",
        "--json",
        tmp_path / "facts.json",
    ]
    outcome = subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=True
    )  # fmt: skip
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert facts["machine"]["cores"] >= 1
    assert 50 < facts["results"]["peak_MB"] < 4096
    name, ratio = outcome.stdout.splitlines()[-1].split()
    assert name == "ratio"
    assert float(ratio) == pytest.approx(facts["results"]["peak_MB"] / 4096, abs=1e-3)
