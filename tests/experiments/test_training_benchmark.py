"""The benchmark of the training step runs, and its two forms are the same training."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "experiments/benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    """The script, with networks and images so small that a step takes no time."""
    if not FOLDER.is_dir():
        pytest.skip("experiments/ is not in this checkout")
    monkeypatch.syspath_prepend(FOLDER)
    module = importlib.import_module("training")
    full = module.make_config

    def make_config(*arguments):
        config = full(*arguments)
        config.generator = {"name": "rrdb", "features": 4, "blocks": 1, "growth": 4}
        config.discriminator = {"name": "patchgan", "features": 4, "layers": 1}
        config.trainer.batch, config.trainer.crop = 2, 32
        return config

    monkeypatch.setattr(module, "make_config", make_config)
    yield module
    for name in ("common", "training", "plain_training"):
        sys.modules.pop(name, None)


def test_it_ends_with_its_ratio(benchmark, monkeypatch, tmp_path, capsys):
    options = (
        f"--small --device cpu --steps 2 --rounds 2 --project 7200 --json {tmp_path / 'x.json'}"
    )
    monkeypatch.setattr(sys, "argv", ["training.py", *options.split()])
    benchmark.main()
    results = json.loads((tmp_path / "x.json").read_text())["results"]
    assert capsys.readouterr().out.splitlines()[-1] == f"ratio {results['ratio']}"
    assert results["ratio"] == pytest.approx(
        results["plain_seconds_a_step"] / results["ours_seconds_a_step"], rel=0.05, abs=0.01
    )
    assert results["ours_hours_of_7200_steps"] == pytest.approx(
        2 * results["ours_seconds_a_step"], abs=0.006
    )
    assert results["ours_share_of_bf16_peak"] is None, "of a CPU no peak is known"


def test_both_forms_are_the_same_training(benchmark, tmp_path):
    vgg = benchmark.write_vgg(tmp_path / "vgg.safetensors")
    results = benchmark.compare(
        benchmark.make_config(False, vgg, "fp32", False), torch.device("cpu"), 1, 1
    )
    assert results["loss_difference"] < 1e-3
    for ours, plain in zip(results["ours_losses"], results["plain_losses"], strict=True):
        assert set(plain) == {"pixel", "perceptual", "gan", "generator", "discriminator"}
        assert ours == pytest.approx(plain, rel=1e-3)
    assert len({terms["generator"] for terms in results["plain_losses"]}) > 1


def test_another_block_has_the_operations_of_its_convolutions(benchmark):
    """2 x outputs x 9 x inputs a pixel, three times: forward, and backward to inputs and weights."""
    config = benchmark.make_config(True, None, "fp32", False)
    one = benchmark.count_operations(config)
    config.generator["blocks"] = 2
    products = 3 * (4 * 4 + 4 * 8 + 4 * 12 + 4 * 16 + 4 * 20)
    assert benchmark.count_operations(config) - one == 3 * 2 * 9 * products * 2 * 8 * 8
