import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors import safe_open
from small_work import MODELS, TINY, Command, python_environment

DOCS = Path(__file__).parents[2] / "docs" / "extend" / "extending.md"
# Without what chooses and sizes the package's networks.
OWN = ["generator=custom"]
SMALL = [setting for setting in TINY if not re.match(r"generator|discriminator", setting)]


@pytest.fixture
def written(own_modules: Path, tmp_path: Path) -> list[str]:
    """The files that the documentation shows, written out as they stand there."""
    blocks = re.findall(
        r"^`([\w/.]+)`:\n\n```\w+\n(.*?)^```$", DOCS.read_text(), re.MULTILINE | re.DOTALL
    )
    for name, text in blocks:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return [name for name, _ in blocks]


def test_python_finds_an_own_folder_of_options(written: list[str], tmp_path: Path) -> None:
    assert written
    section = DOCS.read_text().partition("## An own folder of options\n")[2]
    names = dict[str, Any]()
    exec(section.partition("```python\n")[2].partition("```")[0], names)
    values = yaml.safe_load((tmp_path / "my_options/kernels/lens_blur.yaml").read_text())
    assert names["config"].kernels == values


def test_the_documented_components_train_resume_and_are_evaluated(
    written: list[str], command: Command, source: Path, tmp_path: Path
) -> None:
    code = [
        "my_estimators.py",
        "my_losses.py",
        "my_degradations.py",
        "my_metrics.py",
        "my_networks.py",
    ]
    assert [name for name in written if name.endswith(".py")] == code
    arguments = [
        "+track=dped",
        "data.source=photos",
        "kernels=lens_blur",
        "online_degradation=exposure",
    ]
    arguments += ["+loss/term@loss.near=near_average", "generator=tiny", "discriminator=critic"]
    arguments += [setting for setting in SMALL if not setting.startswith("kernels")]

    def line(work_dir: str, steps: int) -> list[str]:
        options = ["--config-dir", "my_options", *arguments]
        return [*options, f"work_dir={work_dir}", f"trainer.max_steps={steps}"]

    # As a process of its own: only `python -m` says whether the current folder is searched.
    process = subprocess.run(
        [sys.executable, "-m", "realsr.train", *line("parts", steps=2)],
        cwd=tmp_path,
        env=python_environment(),
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    refused = command(
        "evaluate", "weights=[bicubic,parts/runs/default]", "data.hr=photos", "device=cpu"
    )
    assert refused.code == 1
    assert (
        "custom network my_networks.TinyNet, and loading it runs that network's code: "
        "set allow_custom_code=true if you" in refused.log
    )
    assert "my_networks" not in sys.modules

    for work_dir in ("parts", "out"):
        outcome = command("train", *line(work_dir, steps=4))
        assert outcome.code == 0, outcome.log
    parts, run = (tmp_path / work_dir / "runs/default" for work_dir in ("parts", "out"))
    assert (parts / "generator.safetensors").read_bytes() == (
        run / "generator.safetensors"
    ).read_bytes()
    assert len(list((tmp_path / "out/pool/kernels").glob("*_kernel_x4.mat"))) == 9, (
        "three draws for each photo"
    )
    assert any(b"loss/near" in file.read_bytes() for file in (run / "tensorboard").iterdir())
    assert set(json.loads((run / "metrics.json").read_text())["models"]) == MODELS
    with safe_open(run / "generator.safetensors", framework="pt") as content:
        stored = json.loads(content.metadata()["realsr"])["generator"]
        assert content.get_tensor("body.0.weight").shape == (32, 3, 3, 3)
    assert stored == {"name": "my_networks.TinyNet", "width": 32}

    evaluate = ("weights=[bicubic,out/runs/default]", "data.hr=photos", "device=cpu")
    metrics = ("--config-dir", "my_options", "protocol.metrics=[psnr,brightness]")
    outcome = command("evaluate", *metrics, *evaluate, "allow_custom_code=true", "output=scores")
    assert outcome.code == 0, outcome.log
    scores = json.loads((tmp_path / "scores/metrics.json").read_text())["models"]
    assert 0 < scores["out/runs/default"]["mean"]["brightness"] < 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            [*OWN, "generator.name=my_networks.TinyNet", "generator.width=16", "generator.depth=2"],
            "generator.depth",
        ),
        (
            [*OWN, "generator.name=my_networks.TinyNet", "generator.width=-1"],
            "calling it with (scale=4, width=-1) failed",
        ),
        (
            [*OWN, "generator.name=my_networks.Tiny"],
            "my_networks.py has no Tiny; it defines TinyNet, Critic",
        ),
        (
            [*OWN, "generator.name=your_networks.Tiny"],
            "no module your_networks in the current folder",
        ),
        ([*OWN, "generator.name=my_networks.Critic"], "Critic: it returned a tensor"),
        (OWN, "generator.name must be given"),
        (
            [
                "discriminator=custom",
                "discriminator.name=torch.nn.Flatten",
                "discriminator.start_dim=0",
            ],
            "for 2 images; expected logits",
        ),
        (
            ["+loss.near.name=torch.nn.Identity", "+loss.near.weight=1", "discriminator.layers=1"],
            "loss.near: Identity: it returned a StepTensors; expected a floating-point tensor",
        ),
        (["generator.width=16"], "unknown key generator.width"),
    ],
)
def test_what_cannot_be_trained_is_told_before_any_work(
    settings: list[str],
    message: str,
    written: list[str],
    command: Command,
    source: Path,
    tmp_path: Path,
) -> None:
    outcome = command(
        "train", "+track=dped", "data.source=photos", "work_dir=out", *SMALL, *settings
    )
    assert outcome.code == 1
    assert message in outcome.log
    assert not (tmp_path / "out").exists()
