"""The benchmarks of the plan: memory of a training, and the distributed step."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "experiments/benchmarks"


@pytest.fixture
def distributed(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    if not FOLDER.is_dir():
        pytest.skip("experiments/ is not in this checkout")
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module("distributed")
    for name in ("common", "distributed"):
        sys.modules.pop(name, None)


@pytest.mark.slow
def test_processes_follow_one(distributed: ModuleType, tmp_path: Path) -> None:
    options = ["--processes", "1", "2", "--rounds", "1", "--sizes", "4096", "65536", "--json"]
    # A process of its own: autograd cannot be used in a fork of a process that has used it.
    command = [sys.executable, str(distributed.__file__), *options, str(tmp_path / "x.json")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=900)
    results = json.loads((tmp_path / "x.json").read_text())["results"]
    assert results["loss_difference_1"] == results["weight_difference_1"] == 0
    assert results["loss_difference_2"] < 1e-5
    assert results["weight_difference_2"] < 0.01
    assert results["seconds_2_processes_65536_bytes"] > 0


def test_the_fit_finds_the_model_s_values(distributed: ModuleType) -> None:
    values, sizes = (3e-4, 1 / 2e9, 1e-10), [2**16, 2**20, 2**26]
    times = {
        count: [distributed.model(count, size, *values) for size in sizes] for count in (2, 4, 8)
    }
    assert distributed.fit(sizes, times) == pytest.approx(values, rel=1e-6)


def test_a_ring_of_two_passes_each_byte_twice(distributed: ModuleType) -> None:
    assert distributed.model(1, 1e6, 1, 1, 0) == 0
    assert distributed.model(2, 1e6, 0.5, 1e-6, 0) == pytest.approx(2 * (0.5 + 0.5))
