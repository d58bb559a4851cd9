from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from realsr.data.look import LookConfig
from realsr.data.pairs import Pair
from realsr.errors import UserError
from realsr.networks import GeneratorConfig
from realsr.training.loop import TrainingConfig
from realsr.training.run import train_run

MakeConfig = Callable[..., TrainingConfig]


@pytest.fixture
def run(pairs: list[Pair], tmp_path: Path) -> Callable[..., bool]:
    def call(config: TrainingConfig, noise: bool = True, overwrite: bool = False, pairs: list[Pair] = pairs) -> bool:
        patches = [pairs[0].lr] if noise else []
        return train_run(tmp_path / "run", pairs, patches, LookConfig(), [], config, "yaml", overwrite)

    return call


def times(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def test_a_finished_run_does_nothing_and_a_longer_one_goes_on(
    run: Callable[..., bool], make_config: MakeConfig, tmp_path: Path
) -> None:
    assert run(make_config(max_steps=2))
    before = times(tmp_path / "run")
    assert (tmp_path / "run" / "config.yaml").read_text() == "yaml"
    assert not run(make_config(max_steps=2, log_every=50, workers=1)), "how it is watched is no part of the training"
    assert times(tmp_path / "run") == before
    (tmp_path / "run" / "metrics.json").write_text("{}")  # as the evaluation leaves it
    assert run(make_config(max_steps=3))
    assert not (tmp_path / "run" / "metrics.json").exists(), "scores of the shorter training would be taken for its own"
    assert not run(make_config(max_steps=3))


def test_fewer_steps_than_trained_are_refused(run: Callable[..., bool], make_config: MakeConfig) -> None:
    run(make_config(max_steps=3))
    with pytest.raises(UserError, match=r"trained further \(step_00000003\.pt\) than trainer\.max_steps=2"):
        run(make_config(max_steps=2))


def test_another_config_is_refused_unless_it_may_overwrite(
    run: Callable[..., bool], make_config: MakeConfig, pairs: list[Pair], tmp_path: Path
) -> None:
    run(make_config(max_steps=2))
    weights = tmp_path / "run" / "generator.safetensors"
    before = load_file(weights)
    wider = make_config(max_steps=2, generator=GeneratorConfig(features=6, blocks=1, growth=4))
    with pytest.raises(UserError, match=r"(?s)generator: .*'features': 4.* there, .*'features': 6.*overwrite=true"):
        run(wider)
    with pytest.raises(UserError, match="seed: 0 there, 1 now"):
        run(replace(make_config(max_steps=2), seed=1))
    with pytest.raises(UserError, match=r"HR/p3\.png: was there, is gone now"):
        run(make_config(max_steps=2), pairs=pairs[:3])
    with pytest.raises(UserError, match=r"noise/p0\.png: was there, is gone now"):
        run(make_config(max_steps=2), noise=False)
    assert load_file(weights).keys() == before.keys()
    assert run(wider, overwrite=True)
    assert load_file(weights)["conv_first.weight"].shape[0] == 6
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1, "nothing of the old training is left"
