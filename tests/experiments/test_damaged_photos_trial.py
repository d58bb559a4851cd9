import json
from collections.abc import Callable
from pathlib import Path

TRIAL = Path(__file__).parents[2] / "experiments/faults/damaged_photos.py"


def test_the_trial_of_damaged_photos_counts_every_damage(
    tmp_path: Path, run_script: Callable[..., str]
) -> None:
    arguments = [
        "--encodings",
        "jpeg restart markers,png 8 bit,bmp",
        "--cuts",
        "2",
    ]
    arguments += ["--sectors", "3", "--bits", "2", "--output", "counts.json"]
    printed = run_script(TRIAL, *arguments)
    results = json.loads((tmp_path / "counts.json").read_text())["results"]
    for kinds in results.values():
        assert {kind: counts["trials"] for kind, counts in kinds.items()} == {
            "cut": 2,
            "sector": 3,
            "bit": 2,
        }
        assert all(c["refused"] + c["right"] + c["wrong"] == c["trials"] for c in kinds.values())
        assert kinds["cut"]["refused"] == 2
    assert results["jpeg restart markers"]["sector"]["wrong"] == 0
    assert results["png 8 bit"]["bit"] == {
        "trials": 2,
        "refused": 2,
        "accepted": 0,
        "right": 0,
        "wrong": 0,
    }
    assert results["bmp"]["bit"]["wrong"] == 2, "it has no checksum"
    assert "| bmp | 2/0/0 |" in printed
