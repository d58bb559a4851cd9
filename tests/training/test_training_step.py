"""A step against the same written out plainly, and what it must never do."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config_files import config_of, loss_values
from realsr.training.generator_loss import GeneratorLoss
from realsr.training.loss_terms.l1 import L1
from realsr.training.loss_terms.term import StepTensors
from realsr.training.settings import OptimiserConfig, TrainerConfig, TrainingConfig
from realsr.training.state import TrainState, make_state
from realsr.training.step import Outcome, TrainStep, frozen

RATE = 0.1
DECAY = 0.999
MakeStep = Callable[..., tuple[TrainState, TrainStep]]


def make_step(
    pixel: float = 0.5, gan: float = 0.25, features: int = 4, batch: int = 4, **trainer: object
) -> tuple[TrainState, TrainStep]:
    loss = loss_values(pixel=pixel, gan=gan)
    config = TrainingConfig(
        generator={"name": "rrdb", "features": features, "blocks": 1, "growth": 4},
        discriminator={"name": "patchgan", "features": 4, "layers": 1},
        loss=loss,
        optimiser=config_of(OptimiserConfig, learning_rate=RATE),
        trainer=config_of(TrainerConfig, batch=batch, **trainer),  # type: ignore[arg-type]
        scale=2,
        seed=0,
        init=None,
        tracker={},
    )
    parts = make_state(config, torch.device("cpu"))
    return parts, TrainStep(parts, GeneratorLoss(loss), config.trainer, (batch, 3, 8, 8))


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    chance = torch.Generator().manual_seed(1)
    return torch.rand(4, 3, 8, 8, generator=chance), torch.rand(4, 3, 16, 16, generator=chance)


def named(outcome: Outcome) -> dict[str, float]:
    return dict(zip(outcome.names, outcome.values.tolist(), strict=True))


def weights(parts: TrainState) -> dict[str, Tensor]:
    nets = {"g": parts.generator, "d": parts.discriminator, "e": parts.ema}
    return {
        f"{name}.{key}": value.clone()
        for name, net in nets.items()
        if net is not None
        for key, value in net.state_dict().items()
    }


def use_sgd(parts: TrainState) -> None:
    """Not Adam: the relativistic loss leaves a bias of D without a gradient, and Adam makes steps of the rounding."""
    for name, net in parts.networks.items():
        sgd = torch.optim.SGD(net.parameters(), lr=RATE, fused=True)
        parts.optimisers[name] = sgd  # type: ignore[assignment]


def test_steps_are_those_of_the_plain_form(batch: tuple[Tensor, Tensor]) -> None:
    lr, hr = batch
    parts, step = make_step()
    use_sgd(parts)
    assert parts.discriminator is not None
    assert parts.ema is not None
    g, d, ema = (
        copy.deepcopy(parts.generator),
        copy.deepcopy(parts.discriminator),
        copy.deepcopy(parts.ema),
    )
    plain_g, plain_d = (torch.optim.SGD(net.parameters(), lr=RATE) for net in (g, d))
    for _ in range(3):
        values = named(step(lr, hr, RATE, decay=0.5))

        # The same, written out: D is unchanged until its own step, and its logits are logits of batches.
        sr = g(lr)
        real, fake = d(hr).detach(), d(sr)
        gan = F.softplus(real - fake.mean()).mean() + F.softplus(-(fake - real.mean())).mean()
        pixel = (sr - hr).abs().mean()
        plain_g.zero_grad()
        (0.5 * pixel + 0.25 * gan / 2).backward()
        norm = (
            torch.stack([p.grad.square().sum() for p in g.parameters() if p.grad is not None])
            .sum()
            .sqrt()
        )
        plain_g.step()
        real, fake = d(hr), d(sr.detach())
        d_loss = (
            F.softplus(-(real - fake.mean())).mean() + F.softplus(fake - real.mean()).mean()
        ) / 2
        plain_d.zero_grad()
        d_loss.backward()
        plain_d.step()
        for averaged, parameter in zip(ema.parameters(), g.parameters(), strict=True):
            averaged.data = 0.5 * averaged.data + 0.5 * parameter.data

        right = (real > fake.mean()).float().mean() + (fake < real.mean()).float().mean()
        expected = {
            "loss/pixel": pixel, "loss/gan": gan / 2, "loss/generator": 0.5 * pixel + 0.125 * gan,
            "loss/discriminator": d_loss, "discriminator/real": real.mean(), "discriminator/fake": fake.mean(),
            "discriminator/accuracy": right / 2, "variance/SR": sr.var(dim=(2, 3)).mean(),
        }  # fmt: skip
        for name, value in expected.items():
            assert values[name] == pytest.approx(value.item(), rel=1e-4), name
        norms = [value for name, value in values.items() if name.startswith("gradient/generator/")]
        assert sum(n**2 for n in norms) ** 0.5 == pytest.approx(norm.item(), rel=1e-4)
        assert values["skipped"] == 0
    for net, plain in ((parts.generator, g), (parts.discriminator, d), (parts.ema, ema)):
        for (name, value), wanted in zip(net.named_parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(value, wanted, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("share", [0.1, 0.9, 1.1])
def test_clipping_is_torch_s_of_each_network_and_the_norms_are_those_before(
    share: float, batch: tuple[Tensor, Tensor]
) -> None:
    (plain, plain_step), (clipped, clipped_step) = make_step(), make_step()
    networks = ("generator", "discriminator")
    starts = [copy.deepcopy(getattr(plain, name)) for name in networks]
    use_sgd(plain)
    use_sgd(clipped)
    free = named(plain_step(*batch, RATE, DECAY))
    norms = {
        name: sum(v**2 for k, v in free.items() if k.startswith(f"gradient/{name}/")) ** 0.5
        for name in networks
    }
    assert norms["generator"] != pytest.approx(norms["discriminator"], rel=0.1)
    largest = share * max(norms.values())
    assert named(clipped_step(*batch, RATE, DECAY, max_norm=largest)) == pytest.approx(free)
    for name, start in zip(networks, starts, strict=True):
        parameters = list(start.parameters())
        for parameter, after in zip(parameters, getattr(plain, name).parameters(), strict=True):
            parameter.grad = (parameter.detach() - after.detach()) / RATE
        assert float(nn.utils.clip_grad_norm_(parameters, largest)) == pytest.approx(
            norms[name], rel=1e-3
        )
        torch.optim.SGD(parameters, lr=RATE).step()
        for expected, value in zip(parameters, getattr(clipped, name).parameters(), strict=True):
            torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)


def test_clipping_with_gradients_that_are_not_finite_changes_nothing(
    batch: tuple[Tensor, Tensor],
) -> None:
    lr, hr = batch
    parts, step = make_step()
    before = weights(parts)
    hr[0, 0, 0, 0] = torch.inf
    assert named(step(lr, hr, RATE, DECAY, max_norm=1.0))["skipped"] == 1
    assert all(torch.equal(v, before[k]) for k, v in weights(parts).items() if k[0] != "e")


class Watched(nn.Module):
    """A discriminator that notes each image given, and whether its parameters were free then."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.seen: list[tuple[Tensor, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append((x, any(p.requires_grad for p in self.net.parameters())))
        return self.net(x)


def test_d_is_frozen_in_g_s_step_and_sees_hr_once(
    batch: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, step = make_step(pixel=0.0, gan=1.0)
    assert parts.discriminator is not None
    parts.networks["discriminator"] = watched = Watched(parts.discriminator)
    after = []
    backward = Tensor.backward

    def spy(self: Tensor, *args: object, **options: object) -> None:
        backward(self, *args, **options)  # type: ignore[arg-type]
        after.append(
            [
                sum(float(p.grad.abs().sum()) for p in net.parameters() if p.grad is not None)
                for net in (parts.generator, watched)
            ]
        )

    monkeypatch.setattr(Tensor, "backward", spy)
    step(*batch, RATE, DECAY)
    (real, real_free), (fake, fake_free), (detached, detached_free) = watched.seen
    assert torch.equal(real, batch[1]), "D(real) is computed once, for both steps"
    assert (real_free, fake_free, detached_free) == (True, False, True)
    assert fake.requires_grad
    assert not detached.requires_grad
    (of_g, of_d), (of_g_later, of_d_later) = after
    assert of_g > 0, "the GAN term alone reaches G"
    assert of_d == 0, "and leaves no gradient in D"
    assert of_g_later == of_g, "D's step leaves G's gradients alone"
    assert of_d_later > 0
    assert all(p.requires_grad for p in watched.parameters())


def test_without_the_gan_term_there_is_no_discriminator(batch: tuple[Tensor, Tensor]) -> None:
    parts, step = make_step(gan=0.0)
    assert parts.discriminator is None
    values = named(step(*batch, RATE, DECAY))
    assert {name for name in values if name.startswith(("loss", "discriminator"))} == {
        "loss/pixel",
        "loss/generator",
    }


@pytest.mark.parametrize("where", ["LR", "HR", "loss"])
def test_a_step_with_a_value_that_is_not_finite_changes_nothing(
    where: str, batch: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    lr, hr = batch
    parts, step = make_step()
    step(lr, hr, RATE, DECAY)  # so that the optimisers have moments
    before = weights(parts)
    moments = copy.deepcopy(parts.optimisers["generator"].state_dict()["state"])
    if where == "loss":  # the gradients stay finite: only the term tells
        monkeypatch.setattr(L1, "forward", lambda self, x: (x.sr - x.hr).abs().mean() + torch.inf)
    else:
        (lr if where == "LR" else hr)[0, 0, 0, 0] = torch.nan
    values = named(step(lr, hr, RATE, DECAY))
    assert values["skipped"] == 1
    monkeypatch.undo()
    ema = {name for name in before if name.startswith("e.")}
    for name, value in weights(parts).items():
        assert value.isfinite().all(), name
        if name not in ema:
            assert torch.equal(value, before[name]), name
    for index, state in parts.optimisers["generator"].state_dict()["state"].items():
        for key, value in state.items():
            assert torch.equal(value, moments[index][key])
    lr, hr = (torch.nan_to_num(x) for x in (lr, hr))
    assert named(step(lr, hr, RATE, DECAY))["skipped"] == 0
    assert not torch.equal(weights(parts)["g.conv_first.weight"], before["g.conv_first.weight"])


def test_parts_of_a_batch_one_after_another_are_the_whole_batch(
    batch: tuple[Tensor, Tensor],
) -> None:
    """For the terms that are means over images; RaGAN's means are of each part."""
    results = []
    for accumulate in (1, 2, 4):
        _, step = make_step(pixel=1.0, gan=0.0, accumulate=accumulate)
        values = named(step(*batch, 1e-3, DECAY))
        results.append((values["loss/pixel"], values["gradient/generator/conv_first.weight"]))
    for result in results[1:]:
        assert result == pytest.approx(results[0], rel=1e-5)


def test_activation_checkpointing_computes_the_same(batch: tuple[Tensor, Tensor]) -> None:
    plain, checkpointed = (
        named(make_step(checkpoint_activations=value)[1](*batch, RATE, DECAY))
        for value in (False, True)
    )
    assert checkpointed == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_near_float32_and_loses_nothing_of_the_weights(
    precision: str, batch: tuple[Tensor, Tensor]
) -> None:
    (_, exact), (parts, half) = make_step(features=8), make_step(features=8, precision=precision)
    first, second = (named(step(*batch, 1e-4, DECAY)) for step in (exact, half))
    assert second["skipped"] == 0
    for name in ("loss/pixel", "loss/gan", "loss/discriminator", "variance/SR"):
        assert second[name] == pytest.approx(first[name], rel=0.03), name
        assert second[name] != first[name] or name == "loss/gan", (
            f"{name}: was anything computed in {precision}?"
        )
    norms = [
        sum(v**2 for k, v in values.items() if k.startswith("gradient/generator")) ** 0.5
        for values in (first, second)
    ]
    assert norms[1] == pytest.approx(norms[0], rel=0.05), (
        "gradients are told without the scale of the loss"
    )
    assert all(value.dtype == torch.float32 for value in parts.generator.parameters())


def test_fp16_lowers_the_scale_of_the_loss_when_gradients_overflow(
    batch: tuple[Tensor, Tensor],
) -> None:
    parts, step = make_step(precision="fp16")
    step(*batch, RATE, DECAY)
    parts.scaler.update(new_scale=2.0**40)
    before = weights(parts)
    assert named(step(*batch, RATE, DECAY))["skipped"] == 1
    assert torch.equal(weights(parts)["g.conv_first.weight"], before["g.conv_first.weight"])
    assert parts.scaler.get_scale() == 2.0**39
    for _ in range(40):
        values = named(step(*batch, RATE, DECAY))
        if not values["skipped"]:
            break
    assert not values["skipped"], "and trains again"


def test_weight_0_leaves_a_term_out_of_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fixed(nn.Module):
        def __init__(self, network: object, weights: object) -> None:
            super().__init__()

        def forward(self, x: StepTensors) -> Tensor:
            return torch.tensor(10.0)

    monkeypatch.setattr("realsr.training.loss_terms.perceptual.Perceptual", Fixed)
    sr, hr, logits = torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.5), torch.zeros(1, 1)
    x = StepTensors(sr, hr, sr, None, logits, logits)
    terms = GeneratorLoss(loss_values(pixel=2.0, perceptual=3.0, gan=0.5))(x)
    assert {name: round(float(value), 4) for name, value in terms.items()} == {
        "pixel": 0.5, "perceptual": 10.0, "gan": 0.6931, "generator": 31.3466,
    }  # fmt: skip
    without = GeneratorLoss(loss_values(pixel=0.0, perceptual=0.0, gan=0.5))(x)
    assert without.keys() == {"gan", "generator"}
    assert float(without["generator"]) == pytest.approx(0.5 * 0.693147)


def test_a_frozen_network_is_free_again_whatever_happens() -> None:
    net = nn.Conv2d(3, 3, 1)

    def fail() -> None:
        with frozen(net):
            assert not any(parameter.requires_grad for parameter in net.parameters())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert all(parameter.requires_grad for parameter in net.parameters())
