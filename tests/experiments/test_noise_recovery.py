import subprocess
import sys
from pathlib import Path

STUDY = Path(__file__).parents[2] / "experiments/noise_recovery"


def test_the_noise_study_s_page_shows_what_was_recorded() -> None:
    command = [sys.executable, STUDY / "study.py", "--json", STUDY / "results/2026-11-29.json"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.strip() in (STUDY / "README.md").read_text()
