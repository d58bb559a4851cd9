from collections.abc import Callable
from pathlib import Path

STUDY = Path(__file__).parents[2] / "experiments/tile_overlap"


def test_the_overlap_study_s_page_shows_what_was_recorded(
    run_script: Callable[..., str],
) -> None:
    printed = run_script(STUDY / "study.py", "--json", STUDY / "results/2026-11-23.json")
    assert printed.strip() in (STUDY / "README.md").read_text()
