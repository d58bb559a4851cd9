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
    is_perceptual,
    needs_discriminator,
)
from realsr.training.loss_terms.term import StepTensors
from realsr.training.settings import TrainingConfig
from realsr.training.state import check_settings, make_state, try_terms
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
def test_a_term_is_perceptual_by_a_classifier_or_a_discriminator(option: str) -> None:
    adversarial = {"gan", "ragan"}
    loss = {"x": yaml_values(f"loss/term/{option}")}
    assert is_perceptual(loss) == (option in CLASSIFIERS or option in adversarial)


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


TRIED = """
import torch
from torch import nn

class Term(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, x):
        difference = (x.sr - x.hr).abs()
        match self.kind:
            case "mean":
                return difference.mean()
            case "map":
                return difference
            case "float":
                return difference.mean().item()
            case "detached":
                return difference.mean().detach()
            case "hr":
                return nn.Parameter(x.hr).mean()
            case "average":
                return (x.sr - x.sr_ema).abs().mean()
            case "logits":
                return -x.fake_logits.mean()

class Critic(Term):
    needs = frozenset({"fake_logits"})
"""


@pytest.fixture
def try_loss(
    own_modules: Path, make_config: Callable[..., TrainingConfig]
) -> Callable[[dict[str, Any]], None]:
    (own_modules / "tried_terms.py").write_text(TRIED)

    def call(loss: dict[str, Any]) -> None:
        config = make_config(loss, crop=32)
        check_settings(config)
        try_terms(GeneratorLoss(loss), config)

    return call


@pytest.mark.parametrize("option", TERMS)
def test_a_term_of_the_package_can_be_tried(
    option: str, try_loss: Callable[[dict[str, Any]], None], feature_files: dict[str, Path]
) -> None:
    try_loss({"x": term_values(option, feature_files)})


@pytest.mark.parametrize(("term", "kind"), [("Term", "mean"), ("Critic", "logits")])
def test_a_term_of_ones_own_that_fits_passes(
    term: str, kind: str, try_loss: Callable[[dict[str, Any]], None]
) -> None:
    before = torch.random.get_rng_state()
    try_loss({"near": {"name": f"tried_terms.{term}", "weight": 1.0, "kind": kind}})
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("map", r"it returned a tensor \(2, 3, 32, 32\) of torch.float32; expected"),
        ("float", "it returned a float; expected a floating-point tensor of shape"),
        ("detached", "without a gradient with respect to sr; expected"),
        ("hr", "without a gradient with respect to sr; expected"),
        ("average", r"fails on crops of .*TypeError.*tried_terms.py, line.*attribute needs"),
        ("logits", r"fails on crops of .*AttributeError.*tried_terms.py, line.*attribute needs"),
    ],
)
def test_a_term_of_ones_own_that_does_not_fit_is_named(
    kind: str, message: str, try_loss: Callable[[dict[str, Any]], None]
) -> None:
    near = {"name": "tried_terms.Term", "weight": 1.0, "kind": kind}
    with pytest.raises(UserError, match=rf"loss\.near: Term:? .*{message}"):
        try_loss(loss_values(pixel=1.0) | {"near": near})


def test_crops_that_a_term_of_the_package_cannot_divide_are_named(
    try_loss: Callable[[dict[str, Any]], None],
) -> None:
    values = yaml_values("loss/term/focal_frequency", patch_factor=3)
    with pytest.raises(UserError, match=r"loss\.ffl: FocalFrequency: patch_factor=3"):
        try_loss({"ffl": values})
