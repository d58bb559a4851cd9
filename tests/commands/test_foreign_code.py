"""Files from elsewhere run nothing without allow_custom_code=true, whatever network they name."""

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from small_work import TINY, Command

from realsr.weights import load_generator_state

NAMES = {
    "torch.hub.load": {"repo_or_dir": ".", "model": "run", "source": "local"},
    "hydra.utils.instantiate": {"config": {"_target_": "os.system", "command": "touch touched"}},
    "os.system": {"command": "touch touched"},
    "builtins.eval": {"source": "open('touched', 'w')"},
    "hubconf.run": {"nested": {"_target_": "os.system", "_args_": ["touch touched"]}},
}
HUB = "import pathlib\npathlib.Path('touched').touch()\ndef run(*args, **kwargs): pathlib.Path('touched').touch()\n"


@pytest.fixture(params=NAMES)
def folder(request: pytest.FixtureRequest, tmp_path: Path, source: Path) -> Path:
    """A run's folder from elsewhere: its weights name a function of code."""
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (tmp_path / "hubconf.py").write_text(HUB)
    notes = {"generator": {"name": request.param, "arguments": NAMES[request.param]}, "scale": 4}
    for name in ("generator", "generator_ema", "best"):
        save_file(
            {"weight": torch.zeros(1)}, run / f"{name}.safetensors", {"realsr": json.dumps(notes)}
        )
    (run / "config.yaml").write_text(f"generator: {{_target_: os.system, name: {request.param}}}\n")
    return run


def test_no_command_runs_what_a_file_names(folder: Path, command: Command, tmp_path: Path) -> None:
    commands = [
        ("upscale", "input=photos", "output=out", f"weights={folder}", "device=cpu"),
        ("evaluate", f"weights=[bicubic,{folder}]", "data.hr=photos", "device=cpu"),
        ("export", f"weights={folder}", "output=networks"),
        ("export", f"weights={folder}", "output=x.pth"),
    ]
    for name, *arguments in commands:
        outcome = command(name, *arguments)
        assert outcome.code == 1, outcome.log
        assert "Traceback" not in outcome.log
        assert not (tmp_path / "touched").exists(), name
    assert command("export", f"weights={folder}", "output=x.safetensors").code == 0, (
        "tensors alone need no code"
    )
    with pytest.raises(Exception, match=r"generator\.safetensors: weights of another generator"):
        load_generator_state(torch.nn.Conv2d(3, 3, 3), folder)
    assert not (tmp_path / "touched").exists()


def test_a_run_that_is_trained_evaluates_no_other_network_than_its_config_s(
    command: Command, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = (
        "train",
        "+track=dped",
        "data.source=photos",
        "work_dir=out",
        "pool=noise_only",
        *TINY,
        "run=out/run",
    )
    outcome = command(*train)
    assert outcome.code == 0, outcome.log
    notes = {"generator": {"name": "hubconf.run", "arguments": {}}, "scale": 4}
    save_file(
        {"weight": torch.zeros(1)},
        tmp_path / "out/run/generator_ema.safetensors",
        {"realsr": json.dumps(notes)},
    )
    (tmp_path / "hubconf.py").write_text(HUB)
    monkeypatch.setattr(
        "realsr.api.training_run.train_run", lambda *arguments: True
    )  # as if the record were of these files
    outcome = command(*train)
    assert outcome.code == 1
    assert "generator_ema.safetensors: holds the custom network hubconf.run" in outcome.log
    assert not (tmp_path / "touched").exists()


class Malicious:
    """Runs a command where a pickle of it is loaded."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch touched",)


@pytest.mark.parametrize(
    "place", ["pool/kernels/a_kernel_x4.mat", "pool/noise/a_000.png", "pool/manifest.json"]
)
def test_a_pool_from_elsewhere_runs_nothing(
    place: str, command: Command, source: Path, tmp_path: Path
) -> None:
    arguments = (
        "+track=dped",
        "data.source=photos",
        "work_dir=out",
        "kernels=spectral",
        "kernels.gates=null",
    )
    arguments += ("noise.size=16", "noise.stride=16", "noise.max_variance=25")
    for name in ("estimate_kernels", "collect_noise"):
        assert command(name, *arguments).code == 0
    for manifest in (tmp_path / "out/pool").glob("manifest.json"):
        manifest.unlink()  # a pool from elsewhere has none
    content = {"kernels": {"_target_": "os.system", "command": "touch touched"}}
    data = json.dumps(content).encode() if place.endswith(".json") else pickle.dumps(Malicious())
    (tmp_path / "out" / place).write_bytes(data)
    small = [setting for setting in TINY if not setting.startswith("kernels.iterations")]
    outcome = command("train", *arguments, *small)
    assert outcome.code == 1
    assert Path(place).name in outcome.log
    assert "Traceback" not in outcome.log
    assert not (tmp_path / "touched").exists()


def test_a_checkpoint_from_elsewhere_runs_nothing(
    command: Command, source: Path, tmp_path: Path
) -> None:
    train = (
        "train",
        "+track=dped",
        "data.source=photos",
        "work_dir=out",
        "pool=noise_only",
        *TINY,
        "run=out/run",
    )
    assert command(*train).code == 0
    newest = tmp_path / "out/run/checkpoints/step_00000002.pt"
    state = torch.load(newest, weights_only=True)
    torch.save(state | {"watch": Malicious()}, newest)
    (tmp_path / "out/run/generator.safetensors").unlink()
    outcome = command(*train)
    assert f"{newest.relative_to(tmp_path)} cannot be read" in outcome.log
    assert newest.with_suffix(".damaged").exists()
    assert not (tmp_path / "touched").exists()
