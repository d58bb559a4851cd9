import json
from collections.abc import Callable
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "experiments/benchmarks/transparency.py"


def test_it_tells_rims_with_and_without_the_fill(
    tmp_path: Path, run_script: Callable[..., str]
) -> None:
    arguments = ("--weights", "bicubic", "--width", "90", "--height", "60", "--json", "out.json")
    printed = run_script(SCRIPT, *arguments)
    results = json.loads((tmp_path / "out.json").read_text())["results"]
    assert printed.splitlines()[-1] == "ratio 0.0"
    assert results["bicubic, hard white"]["plain"] > 50
    assert results["bicubic, soft red"]["filled"] == 0
    assert results["fill_MB"] < 1
