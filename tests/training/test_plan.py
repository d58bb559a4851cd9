from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from config_files import config_of, loss_values, yaml_values
from realsr.core.errors import UserError
from realsr.training.generator_loss import GeneratorLoss
from realsr.training.plan import (
    GPU_KINDS,
    StepCost,
    _list_tensors,
    _MemoryCounter,
    choose_rate,
    count_step,
    make_plan,
    plan_gpu,
)
from realsr.training.settings import OptimiserConfig, TrainerConfig, TrainingConfig
from realsr.training.state import make_state
from realsr.training.step import TrainStep

KINDS = {kind.name: kind for kind in GPU_KINDS}
COST = StepCost({}, 1e12, 10**9, 0, 0, 0, 0)


def make_config(loss: dict[str, Any], **trainer: Any) -> TrainingConfig:
    return TrainingConfig(
        generator={"name": "rrdb", "features": 8, "blocks": 1, "growth": 4},
        discriminator=yaml_values("discriminator/patch_small"),
        loss=loss,
        optimiser=config_of(OptimiserConfig),
        trainer=config_of(
            TrainerConfig,
            **{"batch": 4, "crop": 32, "precision": "fp32", "device": "cpu"} | trainer,
        ),
        scale=2,
        seed=0,
        init=None,
        tracker={},
    )


def test_flop_are_those_counted_by_hand() -> None:
    """A convolution's backward pass is two convolutions of its size; the input image has no gradient."""
    lr, hr = 16**2, 32**2
    dense = [(8, 4, lr), (12, 4, lr), (16, 4, lr), (20, 4, lr), (24, 8, lr)]
    first = (3, 8, lr)
    convolutions = [first, *3 * dense, (8, 8, lr), (8, 8, hr), (8, 8, hr), (8, 3, hr)]
    work = [2 * 9 * inputs * outputs * pixels for inputs, outputs, pixels in convolutions]
    cost = count_step(make_config(loss_values(pixel=1.0)), "fp32")
    assert cost.flop == 4 * (3 * sum(work) - work[0])
    assert list(cost.parameters) == ["generator"]
    weights = sum(9 * i * o + o for i, o, _ in convolutions)
    assert cost.parameters["generator"] == weights
    assert (cost.gradients, cost.optimiser) == (4 * weights, 8 * weights)
    assert cost.weights == 2 * 4 * weights, "with the averaged generator"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_is_planned_is_what_a_step_allocates_and_computes(precision: str) -> None:
    config = make_config(loss_values(pixel=0.01, gan=0.005), precision=precision, accumulate=2)
    state, criterion = make_state(config, torch.device("cpu")), GeneratorLoss(config.loss)
    outside = _list_tensors(state, criterion)
    with FlopCounterMode(display=False) as counter, _MemoryCounter(outside) as memory:
        lr, hr = torch.rand(4, 3, 16, 16), torch.rand(4, 3, 32, 32)
        step = TrainStep(state, criterion, config.trainer, lr.shape)
        step.accumulate(lr, hr)
    cost = count_step(config, precision)
    assert cost.flop == counter.get_total_flops()
    assert cost.activations == pytest.approx(memory.peak, rel=2e-3)
    step(lr, hr, rate=1e-4, decay=0.999)
    moments = sum(
        moment.nbytes
        for optimiser in state.optimisers.values()
        for values in optimiser.state.values()
        for name, moment in values.items()
        if name.startswith("exp_avg")
    )
    assert cost.optimiser == moments


def test_settings_that_save_memory_do() -> None:
    plain = count_step(make_config(loss_values(pixel=1.0)), "fp32")
    parts = count_step(make_config(loss_values(pixel=1.0), accumulate=2), "fp32")
    again = count_step(make_config(loss_values(pixel=1.0), checkpoint_activations=True), "fp32")
    half = count_step(make_config(loss_values(pixel=1.0)), "bf16")
    assert parts.flop == plain.flop < again.flop < 1.5 * plain.flop
    assert max(parts.activations, again.activations, half.activations) < plain.activations
    assert half.traffic < plain.traffic


def test_loss_networks_count_without_their_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*arguments: Any, **options: Any) -> None:
        raise AssertionError("no download")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", download)
    plain = count_step(make_config(loss_values(pixel=1.0)), "fp32")
    loss = loss_values(pixel=1.0, perceptual=1.0)
    cost = count_step(make_config(loss), "fp32")
    # VGG19 up to conv5_4: 20,024,384 parameters, and the mean and standard deviation of ImageNet.
    assert cost.weights - plain.weights == 4 * (20_024_384 + 6)
    assert cost.parameters == plain.parameters


class ReadsValues(nn.Conv2d):
    def __init__(self) -> None:
        super().__init__(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return nn.functional.interpolate(y if y.mean().item() > 0 else -y, scale_factor=2.0)


def test_a_network_that_reads_values_is_refused() -> None:
    config = make_config(loss_values(pixel=1.0))
    config = replace(config, generator={"name": f"{__name__}.ReadsValues"})
    with pytest.raises(UserError, match="the step cannot be planned"):
        count_step(config, "fp32")


@pytest.mark.parametrize(
    ("kind", "precision", "rate"),
    [
        ("A100", "auto", ("bf16", 312)),
        ("A100", "tf32", ("tf32", 156)),
        ("A100", "fp32", ("fp32", 19.5)),
        ("T4", "auto", ("fp32", 8.1)),
        ("T4", "fp16", ("fp16", 65)),
        ("T4", "bf16", None),
    ],
)
def test_precision_of_a_kind(kind: str, precision: str, rate: tuple[str, float] | None) -> None:
    assert choose_rate(KINDS[kind], precision) == rate


def test_the_slower_of_arithmetic_and_memory_counts() -> None:
    costs = {"bf16": COST, "fp32": COST}
    gpu = plan_gpu(KINDS["A100"], "auto", costs, 0.5)
    assert gpu is not None
    assert (gpu.bound, gpu.seconds, gpu.fits) == ("FLOP", pytest.approx(1 / 156), True)
    large = replace(COST, traffic=2039 * 10**9, activations=80 * 10**9)
    gpu = plan_gpu(KINDS["A100"], "auto", {"bf16": large}, 0.5)
    assert gpu is not None
    assert (gpu.bound, gpu.seconds, gpu.fits) == ("traffic", pytest.approx(1), False)
    assert plan_gpu(KINDS["T4"], "bf16", costs, 0.5) is None


def test_hours_at_a_measured_rate() -> None:
    config = make_config(loss_values(pixel=1.0), max_steps=9000)
    plan = make_plan(config, 0.2, 8.0, None)
    assert plan.measured is not None
    assert plan.measured.hours == pytest.approx(9000 * 4 / 8 / 3600)
    assert plan.measured.tflops == pytest.approx(2 * plan.flop / 1e12)
    assert {gpu.precision for gpu in plan.gpus} == {"fp32"}
