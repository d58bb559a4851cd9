import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from config_files import config_of, yaml_values
from realsr.config.composition import load_config
from realsr.core.errors import UserError
from realsr.data.pairs import Pair
from realsr.provenance.migrations import FORMAT
from realsr.training.settings import OptimiserConfig, TrainingConfig
from realsr.training.validation import ValidationSet
from stages import train_run

MakeConfig = Callable[..., TrainingConfig]


@pytest.fixture
def run(pairs: list[Pair], tmp_path: Path) -> Callable[..., bool]:
    def call(
        config: TrainingConfig,
        noise: bool = True,
        overwrite: bool = False,
        pairs: list[Pair] = pairs,
    ) -> bool:
        patches = [pairs[0].lr] if noise else []
        values = yaml_values("online_degradation/noise")
        validation = ValidationSet("held_out", [])
        cache = tmp_path / "cache"
        return train_run(
            tmp_path / "run", pairs, patches, values, validation, config, "yaml", cache, overwrite
        )

    return call


def times(folder: Path) -> dict[str, int]:
    return {
        str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()
    }


def test_a_finished_run_does_nothing_and_a_longer_one_goes_on(
    run: Callable[..., bool], make_config: MakeConfig, tmp_path: Path
) -> None:
    assert run(make_config(max_steps=2))
    before = times(tmp_path / "run")
    assert (tmp_path / "run" / "config.yaml").read_text() == "yaml"
    assert not run(make_config(max_steps=2, log_every=50, workers=1)), (
        "how it is watched is no part of the training"
    )
    assert times(tmp_path / "run") == before
    (tmp_path / "run" / "metrics.json").write_text("{}")  # as the evaluation leaves it
    assert run(make_config(max_steps=3))
    assert not (tmp_path / "run" / "metrics.json").exists(), (
        "scores of the shorter training would be taken for its own"
    )
    assert not run(make_config(max_steps=3))


def test_fewer_steps_than_trained_are_refused(
    run: Callable[..., bool], make_config: MakeConfig
) -> None:
    run(make_config(max_steps=3))
    with pytest.raises(
        UserError,
        match=r"already trained beyond trainer\.max_steps=2 \(step_00000003\.pt\).*delete",
    ):
        run(make_config(max_steps=2))


def test_another_config_is_shown_and_refused_unless_it_may_overwrite(
    run: Callable[..., bool], make_config: MakeConfig, pairs: list[Pair], tmp_path: Path
) -> None:
    run(make_config(max_steps=2))
    weights = tmp_path / "run" / "generator.safetensors"
    before = load_file(weights)
    wider = make_config(
        max_steps=2, generator={"name": "rrdb", "features": 6, "blocks": 1, "growth": 4}
    )
    with pytest.raises(
        UserError,
        match=r"(?s)generator\.features: was 4, now 6.*overwrite=true.*trainer\.allow_changes=true",
    ):
        run(wider)
    with pytest.raises(UserError, match="seed: was 0, now 1"):
        run(replace(make_config(max_steps=2), seed=1))
    with pytest.raises(UserError, match=r"HR/p3\.png: missing now"):
        run(make_config(max_steps=2), pairs=pairs[:3])
    with pytest.raises(UserError, match=r"noise/p0\.png: missing now"):
        run(make_config(max_steps=2), noise=False)
    assert load_file(weights).keys() == before.keys()
    assert run(wider, overwrite=True)
    assert load_file(weights)["conv_first.weight"].shape[0] == 6
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1, (
        "nothing of the old training is left"
    )


def test_a_finished_run_of_before_warm_up_has_nothing_to_do_and_refuses_a_change(
    run: Callable[..., bool], make_config: MakeConfig, tmp_path: Path
) -> None:
    run(make_config(max_steps=2))
    file = tmp_path / "run" / "manifest.json"
    manifest = json.loads(file.read_text())
    section = manifest["training"]
    section["format"] = 3
    assert section["config"].pop("optimiser.warmup") == 0
    assert section["config"].pop("optimiser.max_gradient_norm") is None
    file.write_text(json.dumps(manifest))
    assert not run(make_config(max_steps=2))
    clipped = config_of(OptimiserConfig, learning_rate=1e-3, milestones=[2, 5], max_gradient_norm=1)
    with pytest.raises(UserError, match=r"optimiser\.max_gradient_norm: was None, now 1"):
        run(make_config(max_steps=2, optimiser=clipped))


def test_changes_that_are_allowed_are_shown_kept_in_the_manifest_and_trained_with(
    run: Callable[..., bool],
    make_config: MakeConfig,
    pairs: list[Pair],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run(make_config(max_steps=2))
    still = config_of(OptimiserConfig, learning_rate=0.0, milestones=[])
    before = load_file(tmp_path / "run" / "generator.safetensors")
    with caplog.at_level(logging.INFO):
        assert run(make_config(max_steps=4, optimiser=still, allow_changes=True), pairs=pairs[:3])
    assert "optimiser.learning_rate: was 0.001, now 0.0" in caplog.text
    assert "HR/p3.png: missing now" in caplog.text
    assert "training continues after step 2" in caplog.text
    after = load_file(tmp_path / "run" / "generator.safetensors")
    assert all((after[name] == before[name]).all() for name in before), (
        "the new learning rate holds"
    )
    section = json.loads((tmp_path / "run" / "manifest.json").read_text())["training"]
    assert section["config"]["optimiser.learning_rate"] == 0.0
    assert any("optimiser.learning_rate" in line for line in section["notes"]["changes"][0])
    assert "HR/p3.png" not in section["inputs"]
    assert not run(make_config(max_steps=4, optimiser=still), pairs=pairs[:3]), (
        "the changed one is now the training"
    )


def test_a_change_that_cannot_be_gone_on_with_says_so(
    run: Callable[..., bool], make_config: MakeConfig
) -> None:
    run(make_config(max_steps=2))
    wider = make_config(
        max_steps=3,
        generator={"name": "rrdb", "features": 6, "blocks": 1, "growth": 4},
        allow_changes=True,
    )
    with pytest.raises(UserError, match=r"is of another training \(.+overwrite=true"):
        run(wider)
    assert run(make_config(max_steps=3)), "and is not taken for what the run is"


def test_a_run_that_has_begun_takes_no_other_init(
    run: Callable[..., bool], make_config: MakeConfig, tmp_path: Path
) -> None:
    run(make_config(max_steps=2))
    weights = (tmp_path / "run" / "generator.safetensors").rename(tmp_path / "start.safetensors")
    late = make_config(max_steps=3, init=str(weights), allow_changes=True)
    with pytest.raises(
        UserError, match=r"started with init=null.*init=.+start\.safetensors.*overwrite=true"
    ):
        run(late)
    assert run(late, overwrite=True)
    notes = json.loads((tmp_path / "run" / "manifest.json").read_text())["training"]["notes"]
    assert notes["init"]["size"] == weights.stat().st_size
    weights.unlink()
    assert run(replace(late, trainer=replace(late.trainer, max_steps=4))), (
        "it is read at the beginning only"
    )


def test_the_same_init_by_another_path_is_the_same_and_a_changed_one_is_not(
    run: Callable[..., bool],
    make_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(make_config(max_steps=2))
    weights = (tmp_path / "run" / "generator.safetensors").rename(tmp_path / "start.safetensors")
    monkeypatch.chdir(tmp_path)
    assert run(make_config(max_steps=2, init="start.safetensors"), overwrite=True)
    (tmp_path / "link").symlink_to(weights)
    moved = tmp_path / "moved" / "x.safetensors"
    moved.parent.mkdir()
    for steps, init in enumerate(("./start.safetensors", str(weights), "link"), start=3):
        assert run(make_config(max_steps=steps, init=init))
    assert run(make_config(max_steps=6, init=str(shutil.copy(weights, moved))))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    moved.write_bytes(content)
    with pytest.raises(UserError, match=r"init: content of .+x\.safetensors changed"):
        run(make_config(max_steps=7, init=str(moved)))
    with pytest.raises(
        UserError, match=r"cannot be changed .*init: was .+x\.safetensors, now .+y\.safetensors"
    ):
        run(make_config(max_steps=7, init=str(moved.rename(tmp_path / "y.safetensors"))))


def test_a_record_of_an_earlier_version_knows_init_by_its_note(
    run: Callable[..., bool], make_config: MakeConfig, tmp_path: Path
) -> None:
    run(make_config(max_steps=2))
    weights = (tmp_path / "run" / "generator.safetensors").rename(tmp_path / "start.safetensors")
    assert run(make_config(max_steps=2, init=str(weights)), overwrite=True)
    manifest = tmp_path / "run" / "manifest.json"
    content = json.loads(manifest.read_text())
    del content["training"]["files"]
    manifest.write_text(json.dumps(content))
    assert run(
        make_config(max_steps=3, init=str(weights.rename(tmp_path / "elsewhere.safetensors")))
    )


def test_a_training_that_fails_at_once_leaves_no_config(
    run: Callable[..., bool], make_config: MakeConfig, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="no such file"):
        run(make_config(init="nowhere.pth"))
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_too_little_memory_is_told_with_what_helps(
    run: Callable[..., bool], make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB\nmore")

    monkeypatch.setattr("realsr.training.step.TrainStep.__call__", full)
    with pytest.raises(
        UserError, match=r"Tried to allocate 20 GiB\).*checkpoint_activations=true.*accumulate=2"
    ):
        run(make_config())


def test_the_config_is_recorded_before_the_first_step(
    run: Callable[..., bool],
    make_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def look_at_manifest(*arguments: object) -> list[Path]:
        seen.append(json.loads((tmp_path / "run" / "manifest.json").read_text())["training"])
        raise KeyboardInterrupt

    monkeypatch.setattr("realsr.training.run.train", look_at_manifest)
    with pytest.raises(KeyboardInterrupt):
        run(make_config(max_steps=2))
    assert (seen[0]["items"].keys(), seen[0]["format"]) == ({"config"}, FORMAT)
    assert seen[0]["notes"]["threads"] == 1


@pytest.mark.parametrize(("idle", "threads"), [(1.2, 1), (0.1, 1), (2.0, 2), (None, None)])
def test_a_new_training_takes_as_many_threads_as_cores_are_idle(
    idle: float | None,
    threads: int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from realsr.api import training_run

    config = load_config("train", ["+track=dped", f"run={tmp_path}", "trainer.device=cpu"])
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(training_run.torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(training_run, "count_idle_cores", lambda: idle)
    assert training_run._choose_threads(config) == threads
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert training_run._choose_threads(config) is None, "the user's choice"
    monkeypatch.delenv("OMP_NUM_THREADS")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/step_00000001.pt").write_bytes(b"")
    assert training_run._choose_threads(config) is None, "a resumed training has a recorded number"
