import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from realsr.networks import DiscriminatorConfig, GeneratorConfig, build_discriminator, build_generator
from realsr.training.config import OptimiserConfig
from realsr.training.loop import GeneratorLoss, make_adam, training_step
from realsr.training.losses import LossConfig, PerceptualConfig

NO_VGG = PerceptualConfig(weight=0.0)


@pytest.fixture
def nets() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    generator = build_generator(GeneratorConfig(features=4, blocks=1, growth=4), 2)
    return generator, build_discriminator(DiscriminatorConfig(features=4, layers=1))


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    chance = torch.Generator().manual_seed(1)
    return torch.rand(2, 3, 8, 8, generator=chance), torch.rand(2, 3, 16, 16, generator=chance)


def adams(nets: tuple[nn.Module, nn.Module]) -> list[torch.optim.Optimizer]:
    return [make_adam(net, OptimiserConfig(learning_rate=1e-2, beta1=0.8, beta2=0.9)) for net in nets]


def test_steps_are_those_of_the_plain_form(nets: tuple[nn.Module, nn.Module], batch: tuple[Tensor, Tensor]) -> None:
    lr, hr = batch
    g, d = copy.deepcopy(nets)
    losses = LossConfig(pixel=0.5, perceptual=NO_VGG, gan=0.25)
    # Not Adam: the relativistic loss leaves a bias of D without a gradient, and Adam makes steps of the rounding.
    optimisers: list[torch.optim.Optimizer] = [torch.optim.SGD(net.parameters(), lr=0.1) for net in nets]
    plain_g, plain_d = (torch.optim.SGD(net.parameters(), lr=0.1) for net in (g, d))
    for _ in range(3):
        terms = training_step(*nets, GeneratorLoss(losses), optimisers, lr, hr)

        # The same, written out: D is unchanged until its own step, and its logits are logits of batches.
        sr = g(lr)
        real, fake = d(hr).detach(), d(sr)
        gan = F.softplus(real - fake.mean()).mean() + F.softplus(-(fake - real.mean())).mean()
        pixel = (sr - hr).abs().mean()
        plain_g.zero_grad()
        (0.5 * pixel + 0.25 * gan / 2).backward()
        plain_g.step()
        real, fake = d(hr), d(sr.detach())
        d_loss = (F.softplus(-(real - fake.mean())).mean() + F.softplus(fake - real.mean()).mean()) / 2
        plain_d.zero_grad()
        d_loss.backward()
        plain_d.step()

        assert terms["pixel"].item() == pytest.approx(pixel.item(), rel=1e-5)
        assert terms["gan"].item() == pytest.approx(gan.item() / 2, rel=1e-5)
        assert terms["generator"].item() == pytest.approx(0.5 * pixel.item() + 0.125 * gan.item(), rel=1e-5)
        assert terms["discriminator"].item() == pytest.approx(d_loss.item(), rel=1e-5)
        assert terms["D(real)"].item() == pytest.approx(real.mean().item(), rel=1e-4)
        assert terms["D(fake)"].item() == pytest.approx(fake.mean().item(), rel=1e-4)
    for net, plain in zip(nets, (g, d), strict=True):
        for (name, value), expected in zip(net.named_parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5, msg=name)


class Watched(nn.Module):
    """A discriminator that notes each image given, and which of its parameters were frozen then."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.seen: list[tuple[Tensor, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append((x, any(p.requires_grad for p in self.net.parameters())))
        return self.net(x)


def test_d_is_frozen_in_g_s_step_and_sees_hr_once(
    nets: tuple[nn.Module, nn.Module], batch: tuple[Tensor, Tensor]
) -> None:
    generator, discriminator = nets[0], Watched(nets[1])
    gradients = []

    class Spy(torch.optim.SGD):
        def step(self, closure: object = None) -> None:  # type: ignore[override]
            gradients.append(
                [p.grad is not None and bool(p.grad.any()) for net in nets for p in net.parameters()],
            )

    optimisers = [Spy(net.parameters(), lr=0.0) for net in nets]
    losses = GeneratorLoss(LossConfig(pixel=0.0, perceptual=NO_VGG, gan=1.0))
    training_step(generator, discriminator, losses, optimisers, *batch)
    (real, real_free), (fake, fake_free), (detached, detached_free) = discriminator.seen
    assert real is batch[1], "D(real) is computed once, for both steps"
    assert (real_free, fake_free, detached_free) == (True, False, True)
    assert fake.requires_grad
    assert not detached.requires_grad
    of_g = len(list(nets[0].parameters()))
    assert any(gradients[0][:of_g]), "the GAN term reaches G"
    assert not any(gradients[0][of_g:]), "and leaves no gradient in D"
    assert any(gradients[1][of_g:])
    assert all(p.requires_grad for p in nets[1].parameters())


def test_without_the_gan_term_d_is_not_run(nets: tuple[nn.Module, nn.Module], batch: tuple[Tensor, Tensor]) -> None:
    before = copy.deepcopy(nets[1].state_dict())
    discriminator = Watched(nets[1])
    losses = GeneratorLoss(LossConfig(pixel=1.0, perceptual=NO_VGG, gan=0.0))
    terms = training_step(nets[0], discriminator, losses, adams(nets), *batch)
    assert set(terms) == {"pixel", "generator"}
    assert not discriminator.seen
    for name, value in nets[1].state_dict().items():
        assert torch.equal(value, before[name])


def test_weight_0_leaves_a_term_out_of_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fixed(nn.Module):
        def __init__(self, weights: object) -> None:
            super().__init__()

        def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
            return torch.tensor(10.0)

    monkeypatch.setattr("realsr.training.loop.PerceptualLoss", Fixed)
    sr, hr, logits = torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.5), torch.zeros(1, 1)
    loss = GeneratorLoss(LossConfig(pixel=2.0, perceptual=PerceptualConfig(weight=3.0), gan=0.5))
    terms = loss(sr, hr, logits, logits)
    assert {name: round(float(value), 4) for name, value in terms.items()} == {
        "pixel": 0.5, "perceptual": 10.0, "gan": 0.6931, "generator": 31.3466,
    }  # fmt: skip
    without = GeneratorLoss(LossConfig(pixel=0.0, perceptual=NO_VGG, gan=0.5))(sr, hr, logits, logits)
    assert "perceptual" not in without
    assert float(without["generator"]) == pytest.approx(0.5 * 0.693147)
