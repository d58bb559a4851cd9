import json
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from safetensors.torch import load_file
from small_work import MODELS, TINY, Command, files, python_environment

from realsr.reporting.sweep_page import read_sweep

# The sweeps of docs/train/sweeps.md, made small.
SMALL = ("+experiment=realsr_dped", "data.source=photos", *TINY)
SEEDS = ("seed=0,1", "work_dir=OUT/seed_${seed}")


def launch(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "realsr.train", "-m", *arguments],
        cwd=tmp_path, env=python_environment(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def check_seeds(out: Path) -> None:
    runs = [out / f"seed_{seed}" / "runs" / "realsr_dped" for seed in (0, 1)]
    for run in runs:
        assert set(json.loads((run / "metrics.json").read_text())["models"]) == MODELS
    a, b = (load_file(run / "generator.safetensors") for run in runs)
    assert any((a[key] != b[key]).any() for key in a), "another seed, another generator"


def test_seeds_one_after_the_other(command: Command, source: Path, tmp_path: Path) -> None:
    outcome = command("train", "-m", *SMALL, *SEEDS)
    assert outcome.code == 0, outcome.log
    check_seeds(tmp_path / "OUT")
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "OUT"}, "no litter"
    made = files(tmp_path / "OUT")
    assert command("train", "-m", *SMALL, *SEEDS).code == 0
    assert files(tmp_path / "OUT") == made, "nothing is done twice"


@pytest.mark.parametrize("place", [0, 3])
def test_a_sweep_leaves_the_current_folder_alone_wherever_m_stands(
    place: int, command: Command, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    save = OmegaConf.save
    monkeypatch.setattr(
        OmegaConf,
        "save",
        lambda config, f, *rest: (written.append(Path(f)), save(config, f, *rest)),
    )
    arguments = ["+track=dped", "data.source=photos", f"work_dir={tmp_path}/a,{tmp_path}/b"]
    outcome = command("check_data", *arguments[:place], "-m", *arguments[place:])
    assert outcome.code == 0, outcome.log
    assert written
    assert not [
        path for path in written if path.resolve().is_relative_to(tmp_path) or path.exists()
    ]


@pytest.mark.parametrize("multirun", ["-m", "hydra.mode=MULTIRUN"])
def test_a_yaml_file_may_set_the_folder_of_the_records(
    multirun: str, command: Command, source: Path, tmp_path: Path
) -> None:
    group = tmp_path / "my" / "study"
    group.mkdir(parents=True)
    (group / "records.yaml").write_text("# @package _global_\nhydra: {sweep: {dir: OUT/sweep}}\n")
    arguments = ["+track=dped", "data.source=photos", "scale=2,4"]
    outcome = command("check_data", multirun, "--config-dir", "my", "+study=records", *arguments)
    assert outcome.code == 0, outcome.log
    assert [job.error for job in read_sweep(tmp_path / "OUT/sweep")] == [None, None]
    outcome = command("check_data", multirun, *arguments)
    assert outcome.code == 0, outcome.log
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "my", "OUT"}, "no litter"


def test_a_launcher_of_jobs_asks_for_a_folder_of_its_files(command: Command, source: Path) -> None:
    outcome = command("train", "-m", "hydra/launcher=submitit_slurm", *SMALL, *SEEDS)
    assert outcome.code == 1
    assert "hydra/launcher=submitit_slurm: set hydra.launcher.submitit_folder=FOLDER" in outcome.log


def test_losses_share_pool_and_pairs(command: Command, source: Path, tmp_path: Path) -> None:
    outcome = command(
        "train",
        "-m",
        *SMALL,
        "work_dir=OUT",
        "loss.gan.weight=0.01,0.02",
        "run=OUT/runs/gan_${loss.gan.weight}",
    )
    assert outcome.code == 0, outcome.log
    assert {path.name for path in (tmp_path / "OUT/runs").iterdir()} == {"gan_0.01", "gan_0.02"}
    assert {path.name for path in (tmp_path / "OUT").iterdir()} == {"pool", "pairs", "runs"}


def test_a_run_that_fails_leaves_the_others_done(
    command: Command, source: Path, tmp_path: Path
) -> None:
    outcome = command(
        "train", "-m", *SMALL, "data.source=nothing,photos", "work_dir=OUT/${data.source}"
    )
    assert outcome.code == 1
    assert outcome.log.count("nothing does not exist") == 1, "said once"
    assert (tmp_path / "OUT/photos/runs/realsr_dped/metrics.json").is_file()


@pytest.mark.slow
def test_seeds_side_by_side_with_submitit(source: Path, tmp_path: Path) -> None:
    pytest.importorskip(
        "hydra_plugins.hydra_submitit_launcher", reason="the extra slurm is not installed"
    )
    local = ("hydra/launcher=submitit_local", "hydra.launcher.submitit_folder=OUT/jobs")
    outcome = launch(tmp_path, *local, *SMALL, *SEEDS)
    assert outcome.returncode == 0, outcome.stderr
    check_seeds(tmp_path / "OUT")
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "OUT"}, "no litter"
    assert {path.name for path in (tmp_path / "OUT").iterdir()} == {"jobs", "seed_0", "seed_1"}
    logs = list((tmp_path / "OUT/jobs").glob("*_log.err"))
    assert len(logs) == 2
    assert all("generator.safetensors" in log.read_text() for log in logs), "each says how it goes"


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["submitit_local", "joblib"])
def test_one_of_several_side_by_side_fails(launcher: str, source: Path, tmp_path: Path) -> None:
    module = {"submitit_local": "submitit", "joblib": "joblib"}[launcher]
    pytest.importorskip(
        f"hydra_plugins.hydra_{module}_launcher", reason="the launcher's extra is not installed"
    )
    own = (
        ["hydra.launcher.submitit_folder=OUT/jobs"]
        if module == "submitit"
        else ["hydra.launcher.n_jobs=2"]
    )
    sources = ("data.source=nothing,photos", "work_dir=OUT/${data.source}")
    own += [f"hydra/launcher={launcher}", "hydra.sweep.dir=OUT/sweep"]
    outcome = launch(tmp_path, *own, *SMALL, *sources)
    assert outcome.returncode == 1, outcome.stderr
    failure, success = read_sweep(tmp_path / "OUT/sweep")
    assert str(failure.error).startswith("nothing does not exist")
    assert success.error is None
    assert success.result == tmp_path / "OUT/photos/runs/realsr_dped"
    assert "a job failed: nothing does not exist" in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert (tmp_path / "OUT/photos/runs/realsr_dped/metrics.json").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "OUT"}, "no litter"


def test_the_batch_scripts_of_the_docs_are_bash(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "train" / "sweeps.md").read_text()
    scripts = [part.partition("```")[0] for part in text.split("```bash\n")[1:]]
    assert len(scripts) == 2
    for script in scripts:
        checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
