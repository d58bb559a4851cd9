import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from realsr.training.generator_loss import GeneratorLoss
from realsr.training.loss_terms import perceptual as perceptual_file
from realsr.training.loss_terms.gan import GAN
from realsr.training.loss_terms.l1 import L1
from realsr.training.loss_terms.perceptual import Perceptual
from realsr.training.loss_terms.ragan import discriminator_ragan_loss, generator_ragan_loss
from realsr.training.loss_terms.term import LossTerm, StepTensors

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden" / "ragan.npz"


@pytest.mark.skipif(not GOLDEN.is_file(), reason="the golden numbers are not beside this checkout")
def test_ragan_agrees_with_an_independent_implementation() -> None:
    golden = np.load(GOLDEN)
    real, fake = torch.from_numpy(golden["real_logits"]), torch.from_numpy(golden["fake_logits"])
    assert generator_ragan_loss(real, fake).item() == pytest.approx(
        float(golden["generator_loss"]), abs=1e-6
    )
    assert discriminator_ragan_loss(real, fake).item() == pytest.approx(
        float(golden["discriminator_loss"]), abs=1e-6
    )


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_ragan_is_the_written_out_formula() -> None:
    # two images, two positions, unlike in every place: means per position or per image would differ
    real, fake = [1.0, -0.5, 3.0, 0.25], [-2.0, 0.75, 0.5, -1.0, 4.0, 0.0]
    mean_real, mean_fake = sum(real) / 4, sum(fake) / 6
    generator = -sum(math.log(1 - sigmoid(r - mean_fake)) for r in real) / 4
    generator -= sum(math.log(sigmoid(f - mean_real)) for f in fake) / 6
    discriminator = -sum(math.log(sigmoid(r - mean_fake)) for r in real) / 4
    discriminator -= sum(math.log(1 - sigmoid(f - mean_real)) for f in fake) / 6
    logits = torch.tensor(real).view(2, 1, 1, 2), torch.tensor(fake).view(3, 1, 2, 1)
    assert generator_ragan_loss(*logits).item() == pytest.approx(generator / 2, abs=1e-6)
    assert discriminator_ragan_loss(*logits).item() == pytest.approx(discriminator / 2, abs=1e-6)


@pytest.mark.parametrize("logit", [-3.0, 0.0, 40.0])
def test_a_discriminator_that_knows_nothing_gives_log_2(logit: float) -> None:
    logits = torch.full((2, 1, 3, 3), logit)
    assert generator_ragan_loss(logits, logits).item() == pytest.approx(math.log(2), abs=1e-6)
    assert discriminator_ragan_loss(logits, logits).item() == pytest.approx(math.log(2), abs=1e-6)


def test_the_standard_gan_is_the_written_out_formula() -> None:
    real, fake = [1.0, -0.5, 3.0], [-2.0, 0.75]
    hr = torch.zeros(1, 3, 2, 2)
    gan = GAN()
    generator = gan(StepTensors(hr, hr, hr, fake_logits=torch.tensor(fake)))
    assert generator.item() == pytest.approx(-sum(math.log(sigmoid(f)) for f in fake) / 2)
    discriminator = -sum(math.log(sigmoid(r)) for r in real) / 3
    discriminator -= sum(math.log(1 - sigmoid(f)) for f in fake) / 2
    value = gan.discriminator_loss(torch.tensor(real), torch.tensor(fake)).item()
    assert value == pytest.approx(discriminator)


@pytest.mark.parametrize(("name", "at_zero"), [("gan", 2), ("ragan", 1)])
def test_the_discriminator_has_the_loss_of_the_generator_s_term(name: str, at_zero: int) -> None:
    loss = GeneratorLoss({"gan": {"name": name, "weight": 0.1}})
    logits = torch.zeros(2, 1, 3, 3)
    assert loss.discriminator_loss(logits, logits).item() == pytest.approx(at_zero * math.log(2))


def test_the_two_losses_are_opposed() -> None:
    low, high = torch.zeros(2, 1), torch.full((2, 1), 5.0)
    assert generator_ragan_loss(low, high) < 0.01 < 4 < generator_ragan_loss(high, low)
    assert discriminator_ragan_loss(high, low) < 0.01 < 4 < discriminator_ragan_loss(low, high)


def test_extreme_logits_stay_finite() -> None:
    low, high = torch.full((2, 1), -1e4), torch.full((2, 1), 1e4)
    for loss in (generator_ragan_loss, discriminator_ragan_loss):
        assert torch.isfinite(loss(low, high))
        assert torch.isfinite(loss(high, low))


def test_gradients_push_the_logits_apart_or_together() -> None:
    real, fake = torch.randn(2, 1, 3, 3), torch.randn(2, 1, 3, 3, requires_grad=True)
    generator_ragan_loss(real, fake).backward()
    assert fake.grad is not None
    assert (fake.grad < 0).all(), "the generator raises every fake logit"
    real, fake = real.requires_grad_(), fake.detach().requires_grad_()
    discriminator_ragan_loss(real, fake).backward()
    assert real.grad is not None
    assert fake.grad is not None
    assert (real.grad < 0).all()
    assert (fake.grad > 0).all()


def value(term: LossTerm, sr: Tensor, hr: Tensor) -> Tensor:
    return term(StepTensors(sr, hr, sr))


def test_pixel_loss_is_the_mean_absolute_difference() -> None:
    sr, hr = torch.tensor([0.0, 1.0, 0.5, 0.25]), torch.tensor([0.5, 0.0, 0.5, 0.75])
    assert value(L1(), sr.view(1, 1, 2, 2), hr.view(1, 1, 2, 2)).item() == pytest.approx(0.5)


class Doubling(nn.Module):
    """Stands for VGG: features are twice the image."""

    def __init__(self, network: str, weights: Path | None) -> None:
        super().__init__()
        self.network, self.weights = network, weights

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


@pytest.fixture
def perceptual(monkeypatch: pytest.MonkeyPatch) -> Perceptual:
    monkeypatch.setattr(perceptual_file, "VGGFeatures", Doubling)
    return Perceptual("vgg16", Path("vgg.pth"))


def test_perceptual_loss_is_the_mean_absolute_difference_of_features(
    perceptual: Perceptual,
) -> None:
    sr, hr = torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.25)
    assert value(perceptual, sr, hr).item() == pytest.approx(0.5)
    assert perceptual.features.network == "vgg16"
    assert perceptual.features.weights == Path("vgg.pth")


def test_perceptual_gradient_reaches_sr_only(perceptual: Perceptual) -> None:
    sr, hr = (torch.rand(1, 3, 4, 4, requires_grad=True) for _ in range(2))
    value(perceptual, sr, hr).backward()
    assert sr.grad is not None
    assert sr.grad.any()
    assert hr.grad is None


def test_different_shapes_are_refused_not_broadcast() -> None:
    sr, hr = torch.rand(2, 3, 4, 4), torch.rand(1, 3, 4, 4)
    with pytest.raises(ValueError, match=r"sr is \(2, 3, 4, 4\) and hr \(1, 3, 4, 4\)"):
        StepTensors(sr, hr, sr)
