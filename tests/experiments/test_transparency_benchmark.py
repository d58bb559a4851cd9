import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "experiments/benchmarks/transparency.py"


def test_it_tells_rims_with_and_without_the_fill(tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, "--weights", "bicubic", "--width", "90", "--height", "60"]
    said = subprocess.run(
        [*command, "--json", tmp_path / "out.json"], check=True, capture_output=True, text=True
    ).stdout
    results = json.loads((tmp_path / "out.json").read_text())["results"]
    assert said.splitlines()[-1] == "ratio 0.0"
    assert results["bicubic, hard white"]["plain"] > 50
    assert results["bicubic, soft red"]["filled"] == 0
    assert results["fill_MB"] < 1
