import json
import subprocess
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SCRIPT = EXPERIMENTS / "benchmarks/upscale_memory.py"


@pytest.mark.slow
def test_it_measures_the_command_on_a_small_photo(tmp_path: Path) -> None:
    command = [
        sys.executable,
        SCRIPT,
        "--width",
        "60",
        "--height",
        "40",
        "--json",
        tmp_path / "out.json",
    ]
    log = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    results = json.loads((tmp_path / "out.json").read_text())["results"]
    assert log.splitlines()[-1] == f"ratio {results['ratio']}"
    assert results["peak_MB"] > 100, "torch alone is larger"
    assert results["result_MB"] == round(16 * 60 * 40 * 3 / 2**20)
