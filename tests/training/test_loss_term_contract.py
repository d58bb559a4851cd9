"""What every loss term of conf/loss/term promises, and a term of one's own that reads the averaged generator."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from config_files import loss_values, yaml_values
from realsr.config.options import conf_dir
from realsr.core.errors import UserError
from realsr.training.checkpoints import list_checkpoints
from realsr.training.generator_loss import (
    GeneratorLoss,
    active_terms,
    check_loss,
    needs_discriminator,
)
from realsr.training.loss_terms.term import StepTensors
from realsr.training.settings import TrainingConfig
from realsr.training.state import check_settings, make_state
from realsr.training.step import TrainStep

TERMS = sorted(path.stem for path in (conf_dir() / "loss" / "term").glob("*.yaml"))
OWN = """
from realsr.training.loss_terms.term import LossTerm

class NearAverage(LossTerm):
    needs = frozenset({"sr_ema"})
    min_crop = 8

    def __init__(self, power: float):
        super().__init__()
        self.power = power

    def forward(self, x):
        assert not x.sr_ema.requires_grad
        return (x.sr - x.sr_ema).abs().pow(self.power).mean()
"""


CLASSIFIERS = {
    "perceptual": "vgg19",
    "perceptual_layers": "vgg19",
    "lpips": "alexnet",
    "dists": "vgg16",
}


def term_values(option: str, files: dict[str, Path]) -> dict[str, Any]:
    if option == "dists":
        pytest.importorskip("torchmetrics", reason="torchmetrics is not installed")
    values = yaml_values(f"loss/term/{option}")
    return values | ({"weights": str(files[CLASSIFIERS[option]])} if "weights" in values else {})


@pytest.mark.parametrize("option", TERMS)
def test_a_term_is_a_finite_scalar_whose_gradient_reaches_sr_alone(
    option: str, feature_files: dict[str, Path]
) -> None:
    loss = GeneratorLoss({"x": term_values(option, feature_files)})
    chance = torch.Generator().manual_seed(0)
    side = max(16, loss.terms["x"].min_crop)
    lr, hr, sr, sr_ema, real = (
        torch.rand(2, 3, size, size, generator=chance, requires_grad=True)
        for size in (side, side, side, side, 4)
    )
    terms = loss(StepTensors(lr, hr, sr, sr_ema.detach(), real.detach(), sr.mean((1, 2, 3))))
    assert terms["x"].shape == ()
    assert terms["generator"].isfinite()
    terms["generator"].backward()
    assert sr.grad is not None
    assert sr.grad.any()
    assert sr.grad.isfinite().all()
    assert lr.grad is None
    assert hr.grad is None
    assert all(parameter.grad is None for parameter in loss.parameters())


@pytest.mark.parametrize("option", TERMS)
def test_a_term_s_gradient_is_finite_where_sr_is_hr_and_images_are_black(
    option: str, feature_files: dict[str, Path]
) -> None:
    loss = GeneratorLoss({"x": term_values(option, feature_files)})
    for hr in (torch.rand(1, 3, 32, 32), torch.zeros(1, 3, 32, 32)):
        sr = hr.clone().requires_grad_()
        logits = sr.mean((1, 2, 3))
        loss(StepTensors(hr, hr, sr, hr, logits.detach(), logits))["generator"].backward()
        assert sr.grad is not None
        assert sr.grad.isfinite().all()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("option", TERMS)
def test_a_step_trains_by_a_term(
    option: str,
    precision: str,
    feature_files: dict[str, Path],
    make_config: Callable[..., TrainingConfig],
) -> None:
    loss = {"x": term_values(option, feature_files)}
    config = make_config(loss, crop=32, precision=precision)
    check_settings(config)
    state = make_state(config, torch.device("cpu"))
    before = [parameter.detach().clone() for parameter in state.generator.parameters()]
    step = TrainStep(state, GeneratorLoss(loss), config.trainer, (2, 3, 16, 16))
    chance = torch.Generator().manual_seed(0)
    lr, hr = (torch.rand(2, 3, side, side, generator=chance) for side in (16, 32))
    for _ in range(2):  # the averaged generator differs from the second on
        values = dict(
            zip((outcome := step(lr, hr, 1e-3, decay=0.999)).names, outcome.values, strict=True)
        )
        assert values["skipped"] == 0
        assert values["loss/x"].isfinite()
    changed = [
        not torch.equal(a, b) for a, b in zip(before, state.generator.parameters(), strict=True)
    ]
    assert all(changed)


@pytest.mark.parametrize("option", TERMS)
def test_a_term_of_weight_0_is_not_there(option: str) -> None:
    loss = loss_values(pixel=1.0) | {"x": yaml_values(f"loss/term/{option}", weight=0)}
    assert active_terms(loss) == active_terms(loss_values(pixel=1.0))
    assert not needs_discriminator(loss)
    with pytest.raises(UserError, match="no term has a weight above 0"):
        active_terms({"x": loss["x"]})


def test_a_term_of_ones_own_reads_the_averaged_generator_and_goes_on(
    own_modules: Path, trained: Callable[..., Path], make_config: Callable[..., TrainingConfig]
) -> None:
    (own_modules / "near_average.py").write_text(OWN)
    term = {"name": "near_average.NearAverage", "weight": 0.1, "power": 2.0}
    loss = loss_values(pixel=1.0) | {"near": term}
    whole = trained("whole", config=make_config(loss, max_steps=4))
    trained("parts", config=make_config(loss, max_steps=2))
    parts = trained("parts", config=make_config(loss, max_steps=4))
    assert whole.read_bytes() == parts.read_bytes()
    newest = torch.load(list_checkpoints(parts.parent / "checkpoints")[-1], weights_only=True)
    assert newest["threads"] == torch.get_num_threads()
    with pytest.raises(UserError, match=r"trainer\.crop=4: loss\.near needs 8 or more"):
        check_loss(loss, 4, 0.9)
    with pytest.raises(
        UserError, match=r"trainer\.ema=null: loss\.near needs the averaged generator"
    ):
        check_loss(loss, 16, None)
