"""Stopping and going on: as if the training had never stopped."""

import logging
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from config_files import config_of
from realsr.core.errors import Interrupted, UserError
from realsr.data.degradations.degradation import build_degradation
from realsr.data.degradations.identity import Identity
from realsr.data.pairs import Pair
from realsr.data.validation_images import load_validation
from realsr.training.checkpoints import list_checkpoints
from realsr.training.monitor import TrainingMonitor
from realsr.training.settings import OptimiserConfig, TrainingConfig

Train = Callable[..., Path]
MakeConfig = Callable[..., TrainingConfig]
Weights = dict[str, torch.Tensor]


def different(a: Weights, b: Weights) -> list[str]:
    return sorted(a.keys() ^ b.keys()) + [
        name for name in a.keys() & b.keys() if not torch.equal(a[name], b[name])
    ]


def all_weights(run: Path) -> Weights:
    """Raw, averaged and best weights, and everything that the last checkpoint holds of networks and optimisers."""
    found = {
        f"{name}/{key}": value
        for name in ("generator", "generator_ema", "best")
        if (run / f"{name}.safetensors").exists()
        for key, value in load_file(run / f"{name}.safetensors").items()
    }
    state = torch.load(list_checkpoints(run / "checkpoints")[-1], weights_only=True)
    for name in ("discriminator", "ema"):
        found |= {f"{name}/{key}": value for key, value in state[name].items()}
    for name in ("generator_optimiser", "discriminator_optimiser"):
        for index, moments in state[name]["state"].items():
            found |= {f"{name}/{index}/{key}": value for key, value in moments.items()}
    found["random"] = state["random"][0]["torch"]
    return found


@pytest.mark.parametrize("stopped_after", [1, 3, 4])
def test_resuming_gives_the_training_in_one_go(
    stopped_after: int, trained: Train, pairs: list[Pair]
) -> None:
    images = load_validation(pairs, 2, Identity(), seed=0, largest=32, most=2)
    whole = trained("whole", images).parent
    trained("parts", images, max_steps=stopped_after)
    assert different(all_weights(whole), all_weights(whole.with_name("parts")))
    parts = trained("parts", images).parent
    assert not different(all_weights(whole), all_weights(parts))


@pytest.mark.parametrize("stopped_after", [2, 4])
def test_resuming_with_warm_up_clipping_and_the_unet_gives_the_training_in_one_go(
    stopped_after: int, trained: Train, make_config: MakeConfig
) -> None:
    def config(warmup: int = 4, limit: float | None = 0.1, **changes: object) -> TrainingConfig:
        values = {"learning_rate": 1e-3, "milestones": [5]}
        optimiser = config_of(OptimiserConfig, warmup=warmup, max_gradient_norm=limit, **values)
        return make_config(
            optimiser=optimiser, discriminator={"name": "unet", "features": 4}, **changes
        )

    whole = trained("whole", config=config()).parent
    trained("parts", config=config(max_steps=stopped_after))
    parts = trained("parts", config=config()).parent
    assert not different(all_weights(whole), all_weights(parts))
    for name, other in (("cold", config(warmup=0)), ("free", config(limit=None))):
        changed = different(all_weights(whole), all_weights(trained(name, config=other).parent))
        assert {"generator/conv_first.weight", "discriminator/conv0.weight"} <= set(changed)


def test_a_degradation_of_hr_by_a_dotted_name_is_trained_with_and_resumed(
    trained: Train, pairs: list[Pair]
) -> None:
    values = {"name": "toy_degradation.Drift", "margin": 3, "gain": 0.1}
    degradation = build_degradation(values, 2)
    images = load_validation(pairs, 2, degradation, seed=0, largest=32, most=2)
    whole = trained("whole", images, degradation, max_steps=2, workers=1).parent
    trained("parts", images, degradation, max_steps=1)
    parts = trained("parts", images, degradation, max_steps=2).parent
    assert not different(all_weights(whole), all_weights(parts))
    other = trained("other", images, Identity(), max_steps=2).parent
    assert different(all_weights(whole), all_weights(other))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_resuming_in_half_precision_gives_the_training_in_one_go(
    precision: str, trained: Train
) -> None:
    whole = trained("whole", precision=precision).parent
    trained("parts", precision=precision, max_steps=3)
    parts = trained("parts", precision=precision).parent
    assert not different(all_weights(whole), all_weights(parts))
    state = torch.load(list_checkpoints(parts / "checkpoints")[-1], weights_only=True)
    assert bool(state["scaler"]) == (precision == "fp16")


class Lottery(nn.Module):
    """A generator that draws lots from torch, NumPy and Python."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        import random

        x = nn.functional.dropout(self.conv(x), 0.3, self.training) * random.random()
        x = x * np.random.rand()  # noqa: NPY002
        return x.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)


def test_networks_that_draw_lots_draw_the_same_after_resuming(
    trained: Train, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    config = make_config(generator={"name": "test_resume.Lottery"})
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    import random

    random.seed(5)
    whole = trained("whole", config=config).parent
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    trained("parts", config=replace(config, trainer=replace(config.trainer, max_steps=4)))
    torch.rand(7), np.random.rand(7), random.random()  # noqa: NPY002
    parts = trained("parts", config=config).parent
    assert not different(
        load_file(whole / "generator.safetensors"), load_file(parts / "generator.safetensors")
    )


def test_a_truncated_checkpoint_is_told_and_the_one_before_is_used(
    trained: Train, caplog: pytest.LogCaptureFixture
) -> None:
    whole = trained("whole").parent
    parts = trained("parts").parent
    newest = list_checkpoints(parts / "checkpoints")[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    with caplog.at_level(logging.INFO):
        trained("parts")
    assert f"{newest} cannot be read" in caplog.text
    assert "training continues after step 4, from step_00000004.pt" in caplog.text
    assert not different(all_weights(whole), all_weights(parts))


def test_a_checkpoint_with_weights_that_are_not_finite_is_named(trained: Train) -> None:
    newest = list_checkpoints(trained().parent / "checkpoints")[-1]
    state = torch.load(newest, weights_only=True)
    state["generator"]["conv_last.bias"][0] = float("nan")
    torch.save(state, newest)
    with pytest.raises(
        UserError, match=rf"{newest}: 1 of its \d+ tensors hold values .*conv_last\.bias"
    ):
        trained(max_steps=8)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_leaves(
    number: signal.Signals, code: int, trained: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained("whole").parent
    follow = TrainingMonitor.follow

    def asked(self: TrainingMonitor, step: int, *rest: object) -> None:
        follow(self, step, *rest)  # type: ignore[arg-type]
        if step == 2:
            signal.raise_signal(number)

    before = signal.getsignal(number)
    with monkeypatch.context() as patched:
        patched.setattr(TrainingMonitor, "follow", asked)
        with pytest.raises(
            Interrupted, match=rf"stopped after step 3 by {number.name}; its state is saved"
        ) as stopped:
            trained("parts", checkpoint_every=100)
    assert stopped.value.code == code
    assert signal.getsignal(number) is before
    parts = whole.with_name("parts")
    assert [path.name for path in list_checkpoints(parts / "checkpoints")] == ["step_00000003.pt"]
    trained("parts")
    assert not different(all_weights(whole), all_weights(parts))


def test_a_second_ctrl_c_does_not_wait(trained: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    def impatient(self: TrainingMonitor, step: int, *rest: object) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(TrainingMonitor, "follow", impatient)
    with pytest.raises(KeyboardInterrupt):
        trained()


def test_what_the_config_says_of_the_optimiser_stands_after_resuming(
    trained: Train, make_config: MakeConfig
) -> None:
    def config(beta1: float, steps: int) -> TrainingConfig:
        return make_config(
            optimiser=config_of(OptimiserConfig, learning_rate=1e-3, beta1=beta1, milestones=[]),
            max_steps=steps,
        )

    trained("parts", config=config(0.5, 4))
    run = trained("parts", config=config(0.9, 6)).parent
    state = torch.load(list_checkpoints(run / "checkpoints")[-1], weights_only=True)
    assert state["generator_optimiser"]["param_groups"][0]["betas"] == (0.9, 0.999)


def test_a_checkpoint_of_other_networks_is_refused(trained: Train, make_config: MakeConfig) -> None:
    trained(max_steps=2)
    with pytest.raises(UserError, match=r"is of another training \(.+init=RUN"):
        trained(
            config=make_config(generator={"name": "rrdb", "features": 6, "blocks": 1, "growth": 4})
        )


def test_the_threads_of_a_checkpoint_are_used_again(
    trained: Train, caplog: pytest.LogCaptureFixture
) -> None:
    trained(max_steps=2)
    torch.set_num_threads(2)
    try:
        with caplog.at_level("INFO"):
            trained(max_steps=4)
        assert (
            "was computed with 1 threads: the training continues with them instead of 2"
            in caplog.text
        )
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(1)
