import json
import subprocess
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.mark.slow
def test_the_benchmark_of_memory_tells_a_peak(tmp_path: Path) -> None:
    script, facts = EXPERIMENTS / "benchmarks/upscale_memory.py", tmp_path / "facts.json"
    arguments = ["--width", "150", "--height", "120", "--free", "1", "--json", str(facts)]
    ended = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=True)
    found = json.loads(facts.read_text())["results"]
    assert 50 < found["before_MB"] <= found["peak_MB"] < 4096
    assert found["result_MB"] == round(16 * 150 * 120 * 3 / 2**20)
    name, ratio = ended.stdout.splitlines()[-1].split()
    assert (name, float(ratio)) == ("ratio", found["ratio"])


def test_the_overlap_study_s_page_shows_what_was_recorded() -> None:
    folder = EXPERIMENTS / "tile_overlap"
    command = [sys.executable, folder / "study.py", "--json", folder / "results/2026-11-23.json"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.strip() in (folder / "README.md").read_text()
