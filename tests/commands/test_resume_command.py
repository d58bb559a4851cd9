"""A training that is killed, repeated by the same command."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_work import TINY, Command, python_environment, write_photos

# python -m realsr.train that is killed, as by a power cut, once the checkpoint of step 10 is written.
KILLED = """
import os, signal
from realsr.api.command import run_command
from realsr.training.checkpoints import CheckpointWriter

save = CheckpointWriter.save
def save_and_die(writer, state, *rest):
    save(writer, state, *rest)
    if state["step"] == 10:
        writer.wait()
        os.kill(os.getpid(), signal.SIGKILL)
CheckpointWriter.save = save_and_die

if __name__ == "__main__":
    run_command("train")
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_ten_steps_a_kill_and_ten_steps_are_twenty_bit_for_bit(
    workers: int, command: Command, source: Path, tmp_path: Path
) -> None:
    target = write_photos(tmp_path / "clean", "xy", (64, 64), noise=0)
    settings = ["+track=df2k_jpeg", f"data.source={source}", f"data.target={target}", *TINY]
    settings += [
        "trainer.max_steps=20",
        "trainer.checkpoint_every=10",
        f"trainer.workers={workers}",
    ]
    assert command("train", *settings, "work_dir=straight").code == 0
    (tmp_path / "killed.py").write_text(KILLED)
    killed = subprocess.run(
        [sys.executable, "killed.py", *settings, "work_dir=killed"],
        cwd=tmp_path, env=python_environment(), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    runs = {name: tmp_path / name / "runs" / "default" for name in ("straight", "killed")}
    assert not (runs["killed"] / "generator.safetensors").exists()
    outcome = command("train", *settings, "work_dir=killed")
    assert outcome.code == 0, outcome.log
    assert "training continues after step 10" in outcome.log
    for name in ("generator", "generator_ema", "best"):
        one, two = (load_file(run / f"{name}.safetensors") for run in runs.values())
        assert all(torch.equal(one[key], two[key]) for key in one), name
    one, two = (
        torch.load(run / "checkpoints/step_00000020.pt", weights_only=True) for run in runs.values()
    )
    assert all(
        torch.equal(one["discriminator"][key], value) for key, value in two["discriminator"].items()
    )


@pytest.mark.slow
def test_two_processes_started_by_torchrun_train_one_run(source: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "realsr.train", "+track=dped", f"data.source={source}", "work_dir=out", *TINY]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *more],
            cwd=tmp_path,
            env=python_environment(),
            capture_output=True,
            text=True,
            timeout=180,
        )

    outcome = run("trainer.batch=4")
    assert outcome.returncode == 0, outcome.stderr
    out = tmp_path / "out" / "runs" / "default"
    assert (out / "metrics.json").exists()
    assert (out / "checkpoints" / "step_00000002.pt").exists()
    assert outcome.stderr.count("training: 2 of 2") == 1, "one process tells"
    assert outcome.stderr.count("held out for validation") == 1
    outcome = run("trainer.batch=3", "work_dir=other")
    assert outcome.returncode != 0
    assert "error: trainer.batch=3 cannot be divided among 2 processes" in outcome.stderr
    assert outcome.stderr.count("trainer.batch=3 cannot") == 1
    assert "Traceback" not in outcome.stderr.partition("torch/distributed")[0]
    assert not (tmp_path / "other").exists()
