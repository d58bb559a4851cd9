import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file
from small_work import MODELS, TINY, Command, files, python_environment, write_photos

from realsr.imaging.kernel_shapes import save_kernel
from realsr.simulation.camera_model import anisotropic_kernel


@pytest.mark.parametrize("track", ["dped", "df2k", "df2k_jpeg"])
def test_a_track_goes_from_photos_to_metrics_and_does_nothing_twice(
    track: str, command: Command, source: Path, target: Path, tmp_path: Path
) -> None:
    arguments = (f"+track={track}", f"data.source={source}", "work_dir=out", *TINY)
    if track != "dped":
        arguments += (f"data.target={target}",)
    before = files(source)
    outcome = command("train", *arguments)
    assert outcome.code == 0, outcome.log
    out = tmp_path / "out"
    run = out / "runs" / "default"
    metrics = json.loads((run / "metrics.json").read_text())
    assert set(metrics["models"]) == MODELS
    assert metrics["protocol"]["crop"] == 4
    assert metrics["models"]["best"]["weights"]["files"].keys() == {
        "out/runs/default/best.safetensors"
    }
    made = files(out)
    assert {
        "config.yaml",
        "generator.safetensors",
        "metrics.json",
        "metrics.jsonl",
        "manifest.json",
    } <= set(files(run))
    assert (run / "checkpoints" / "step_00000002.pt").is_file()
    assert any(name.startswith("pool/noise/") for name in made)
    names = set("abc") if track == "dped" else set("abcxy")
    for kind in ("HR", "LR"):
        assert {path.stem for path in (out / "pairs" / kind).iterdir()} == names
    kernels = {f"pool/kernels/{n}_kernel_x{s}.mat" for n in "abc" for s in (2, 4)}
    assert {name for name in made if name.endswith(".mat")} == (
        kernels if track == "dped" else set()
    )
    with Image.open(out / "pairs/HR/a.png") as hr, Image.open(out / "pairs/LR/a.png") as lr:
        assert (hr.size, lr.size) == ((48, 48), (12, 12))
    assert "work_dir: out\n" in (run / "config.yaml").read_text()

    outcome = command("train", *arguments)
    assert outcome.code == 0
    assert "already trained and evaluated, nothing to do" in outcome.log
    assert files(out) == made
    assert files(source) == before, "the photos are left alone"
    assert not {path.name for path in tmp_path.iterdir()} - {"photos", "clean", "out"}, "no litter"

    (run / "metrics.json").unlink()  # as killed before the evaluation
    assert command("train", *arguments).code == 0
    assert json.loads((run / "metrics.json").read_text()) == metrics

    outcome = command("train", *arguments, "generator.features=6")
    assert outcome.code == 1
    assert "overwrite=true" in outcome.log


def test_the_stages_commands_make_what_train_makes(
    command: Command, source: Path, tmp_path: Path
) -> None:
    arguments = ("+track=dped", f"data.source={source}", *TINY)
    for stage in ("check_data", "estimate_kernels", "collect_noise", "make_pairs", "train"):
        outcome = command(stage, *arguments, "work_dir=one")
        assert outcome.code == 0, outcome.log
    assert "dB below bicubic interpolation: train longer" in outcome.log, "after a few steps"
    assert command("train", *arguments, "work_dir=two").code == 0
    one, two = (
        {
            name
            for name in files(tmp_path / folder)
            if re.match(r"(pool|pairs)/(?!cache/|manifest\.json)", name)
        }
        for folder in ("one", "two")
    )
    assert one == two
    for name in one:
        a, b = ((tmp_path / folder / name).read_bytes() for folder in ("one", "two"))
        assert a[128:] == b[128:] if name.endswith(".mat") else a == b, (
            name
        )  # a .mat begins with the time
    weights = [
        load_file(tmp_path / folder / "runs/default/generator.safetensors")
        for folder in ("one", "two")
    ]
    assert all((weights[0][key] == weights[1][key]).all() for key in weights[0])


def test_a_lost_lr_is_rebuilt(command: Command, source: Path, tmp_path: Path) -> None:
    made = (
        "make_pairs",
        "+track=df2k",
        f"data.source={source}",
        "pairs.hr=[source]",
        "work_dir=out",
    )
    assert command(*made).code == 0
    lost = tmp_path / "out/pairs/LR/b.png"
    content = lost.read_bytes()
    lost.unlink()
    again = ("rebuild_pair", *made[1:])
    outcome = command(*again, "pair=b")
    assert outcome.code == 0, outcome.log
    assert "LR/b.png: rebuilt and written, identical to the record: sha256" in outcome.log
    assert lost.read_bytes() == content
    outcome = command(*again)
    assert outcome.code == 1
    assert "pair must be given: set pair=…" in outcome.log
    outcome = command(*again, "pair=0801")  # stays a name
    assert outcome.code == 1
    assert "pair=0801: not among the 3 pairs" in outcome.log


def test_a_stage_without_its_input_names_the_command_that_makes_it(
    command: Command, source: Path
) -> None:
    outcome = command("make_pairs", "+track=dped", f"data.source={source}", "work_dir=out", *TINY)
    assert outcome.code == 1
    assert "no kernels for scale 4" in outcome.log
    assert "python -m realsr.estimate_kernels +track=<track>" in outcome.log


def test_a_pool_and_pairs_from_elsewhere_are_used_as_they_are(
    command: Command, source: Path, tmp_path: Path
) -> None:
    kernel = anisotropic_kernel(17, (2.0, 1.5), 20, 4)
    folder = tmp_path / "out/pool/kernels/001"  # nested, as in the published release
    folder.mkdir(parents=True)
    save_kernel(folder / "kernel_x4.mat", kernel)
    write_photos(tmp_path / "out/pool/noise", "n", (32, 32), block=32)
    before = files(tmp_path / "out")
    arguments = ("+track=dped", f"data.source={source}", "work_dir=out", *TINY)
    outcome = command("train", *arguments)
    assert outcome.code == 0, outcome.log
    assert "kernels made elsewhere" in outcome.log
    assert "noise made elsewhere" in outcome.log
    after = files(tmp_path / "out")
    assert {name: after[name] for name in before} == before
    assert {name for name in after if name.startswith("pool/")} == set(before)
    manifest = json.loads((tmp_path / "out/pairs/manifest.json").read_text())
    assert "kernels/001/kernel_x4.mat" in manifest["pairs"]["inputs"]

    # The pairs alone, carried to another place, train the same without any photos.
    (tmp_path / "out/pairs/manifest.json").unlink()
    (tmp_path / "new").mkdir()
    (tmp_path / "out/pairs").rename(tmp_path / "new/pairs")
    (tmp_path / "out/pool").rename(tmp_path / "new/pool")
    outcome = command("train", "+track=dped", "work_dir=new", *TINY)
    assert outcome.code == 0, outcome.log
    assert "pairs made elsewhere" in outcome.log
    weights = [
        load_file(tmp_path / name / "runs/default/generator.safetensors") for name in ("out", "new")
    ]
    assert all((weights[0][key] == weights[1][key]).all() for key in weights[0])
    for stage, log in (("estimate_kernels", "kernels"), ("make_pairs", "pairs")):
        outcome = command(stage, *arguments[:2], "work_dir=new", *TINY)
        assert outcome.code == 1
        assert f"holds {log} that were made elsewhere" in outcome.log


def test_nested_noise_from_elsewhere_is_used_too(
    command: Command, source: Path, tmp_path: Path
) -> None:
    write_photos(tmp_path / "out/pool/noise/camera1", "n", (32, 32), block=32)
    arguments = ("+track=df2k", f"data.source={source}", "pairs.hr=[source]", "work_dir=out", *TINY)
    outcome = command("train", *arguments)
    assert outcome.code == 0, outcome.log
    assert "noise made elsewhere" in outcome.log
    assert [path.name for path in (tmp_path / "out/pool/noise").rglob("*.png")] == ["n.png"]


def test_a_validation_folder_is_evaluated_instead_of_pairs_held_out(
    command: Command, source: Path, tmp_path: Path
) -> None:
    write_photos(tmp_path / "valid/HR", "v", (48, 48))
    write_photos(tmp_path / "valid/LR", "v", (12, 12), block=4)
    write_photos(tmp_path / "alone", "uw", (48, 52))
    arguments = ("+track=dped", f"data.source={source}", *TINY)
    for folder, names, work_dir in (("valid", {"v"}, "one"), ("alone", {"u", "w"}, "two")):
        outcome = command(
            "train", *arguments, f"data.validation={tmp_path / folder}", f"work_dir={work_dir}"
        )
        assert outcome.code == 0, outcome.log
        assert "held out" not in outcome.log
        metrics = json.loads((tmp_path / work_dir / "runs/default/metrics.json").read_text())
        assert set(metrics["models"]["generator"]["images"]) == names
    write_photos(tmp_path / "alone", "t", (12, 12), block=4)
    outcome = command(
        "train", *arguments, f"data.validation={tmp_path / 'alone'}", "work_dir=three"
    )
    assert outcome.code == 1
    assert (
        "validation image t: its HR is 12x12, but SSIM needs at least 19 on each side"
        in outcome.log
    )


def test_a_single_photo_is_trained_on_and_not_evaluated(command: Command, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", "a")
    outcome = command("train", "+track=dped", "data.source=photos", "work_dir=out", *TINY)
    assert outcome.code == 0, outcome.log
    assert "no evaluation: no pair is held out and data.validation is not given" in outcome.log
    assert not (tmp_path / "out/runs/default/metrics.json").exists()
    assert (tmp_path / "out/runs/default/generator.safetensors").is_file()


@pytest.mark.parametrize(
    "settings",
    [
        ("generator=rrdb", "generator.features=8", "generator.blocks=1", "trainer.batch=1"),
        ("discriminator=vgg128", "discriminator.features=2", "trainer.crop=128"),
        ("discriminator=patch", "discriminator.features=4", "trainer.crop=32"),
        ("loss=realsr", "loss.perceptual.weight=0"),
        ("loss=pixel_gan", "loss.gan.weight=0"),
        ("scale=2", "generator=rrdb_small", "trainer.crop=32", "trainer.workers=1"),
    ],
)
def test_every_option_trains(settings: tuple[str, ...], command: Command, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", "a", (256, 256))
    outcome = command(
        "train", "+track=df2k", "data.source=photos", "pairs.hr=[source]", "work_dir=out", *TINY, *settings,
    )  # fmt: skip
    assert outcome.code == 0, outcome.log
    assert (tmp_path / "out/runs/default/generator.safetensors").is_file()


Started = Callable[..., subprocess.Popen[str]]


def start(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "realsr.train", "+track=dped", "data.source=photos", "work_dir=out", *arguments],
        cwd=tmp_path, env=python_environment(), stderr=subprocess.PIPE, text=True, start_new_session=True,
        # What a shell runs in the background, such as these tests, ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def wait_for(path: Path, pattern: str, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while not list(path.glob(pattern)):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, f"no {pattern} appeared"
        time.sleep(0.01)


@pytest.mark.parametrize(
    "pattern", ["pool/kernels/a_kernel_x2.mat", "runs/default/checkpoints/step_00000003.pt"]
)
def test_killed_and_repeated_it_completes_as_if_nothing_had_been(
    pattern: str, command: Command, source: Path, tmp_path: Path
) -> None:
    settings = (*TINY, "kernels.batch=1", "trainer.max_steps=40", "generator.features=8")
    process = start(tmp_path, *settings)
    wait_for(tmp_path / "out", pattern, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "out/runs/default/generator.safetensors").exists()
    kept = files(tmp_path / "out")
    for work_dir in ("out", "whole"):
        outcome = command(
            "train", "+track=dped", f"data.source={source}", f"work_dir={work_dir}", *settings
        )
        assert outcome.code == 0, outcome.log
    after = files(tmp_path / "out")
    assert (
        after["pool/kernels/a_kernel_x2.mat"] == kept["pool/kernels/a_kernel_x2.mat"]
        or "x2" in pattern
    )
    assert not [name for name in after if name.endswith(".tmp")]
    weights = [
        load_file(tmp_path / name / "runs/default/generator.safetensors")
        for name in ("out", "whole")
    ]
    assert all(np.array_equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_ctrl_c_ends_in_a_message_and_the_repeat_completes(
    command: Command, source: Path, tmp_path: Path
) -> None:
    settings = (
        *TINY,
        "trainer.max_steps=1000",
        "trainer.workers=1",
        "trainer.keep_checkpoints=1000",
    )
    process = start(tmp_path, *settings)
    wait_for(tmp_path / "out", "runs/default/checkpoints/step_00000003.pt", process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    log = process.communicate(timeout=60)[1]
    assert process.returncode == 130, log
    assert "by SIGINT; its state is saved; repeat the command to continue" in log
    assert "Traceback" not in log
    assert not list((tmp_path / "out").rglob("*.tmp"))
    steps = len(list((tmp_path / "out/runs/default/checkpoints").iterdir()))
    outcome = command(
        "train", "+track=dped", f"data.source={source}", "work_dir=out", *settings, f"trainer.max_steps={steps + 1}",
    )  # fmt: skip
    assert outcome.code == 0, outcome.log
    assert f"training continues after step {steps}" in outcome.log
