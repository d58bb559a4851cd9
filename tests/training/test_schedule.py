import itertools
import math

import pytest
import torch
from torch.optim import lr_scheduler

from config_files import config_of
from realsr.core.errors import UserError
from realsr.training.settings import OptimiserConfig, check_optimiser, ema_decay, learning_rate

STEPS = 4000


def rates_of(make: object, rate: float, steps: int = STEPS) -> list[float]:
    """The rates that a scheduler of torch gives to the steps 1, 2, 3, …"""
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=rate)
    scheduler = make(optimiser)  # type: ignore[operator]
    rates = []
    for _ in range(steps):
        rates.append(scheduler.get_last_lr()[0])
        optimiser.step()
        scheduler.step()
    return rates


def ours(config: OptimiserConfig, steps: int = STEPS) -> list[float]:
    return [learning_rate(done, config) for done in range(steps)]


@pytest.mark.parametrize("milestones", [[], [1], [5, 6, 700, 3999], [5000]])
def test_step_is_torch_s_multi_step(milestones: list[int]) -> None:
    config = config_of(OptimiserConfig, learning_rate=3e-4, milestones=milestones, decay=0.4)
    expected = rates_of(lambda o: lr_scheduler.MultiStepLR(o, milestones, gamma=0.4), 3e-4)
    assert ours(config) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("final", [0.0, 1e-7])
def test_a_period_of_cosine_is_torch_s_cosine_annealing(final: float) -> None:
    config = config_of(
        OptimiserConfig, learning_rate=2e-4, schedule="cosine", period=STEPS, final=final
    )
    expected = rates_of(lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS, eta_min=final), 2e-4)
    # torch's goes from each rate to the next, which adds up rounding
    assert ours(config) == pytest.approx(expected, rel=1e-6, abs=1e-14)


@pytest.mark.parametrize("warmup", [2, 7, 1000, STEPS + 5])
@pytest.mark.parametrize("schedule", ["step", "cosine"])
def test_warm_up_is_torch_s_linear_schedule_times_the_other(schedule: str, warmup: int) -> None:
    changes = {"schedule": schedule, "milestones": [5, 800], "period": STEPS, "final": 1e-7}
    config = config_of(OptimiserConfig, learning_rate=2e-4, warmup=warmup, **changes)
    assert ours(config)[:2] == [pytest.approx(2e-4 * k / warmup, rel=1e-6) for k in (1, 2)]

    def linear(optimiser: torch.optim.Optimizer) -> lr_scheduler.LinearLR:
        return lr_scheduler.LinearLR(optimiser, 1 / warmup, 1.0, warmup - 1)

    factors = rates_of(linear, 1.0)
    without = ours(config_of(OptimiserConfig, learning_rate=2e-4, **changes))
    expected = [factor * rate for factor, rate in zip(factors, without, strict=True)]
    assert ours(config) == pytest.approx(expected, rel=1e-6)


def test_without_warm_up_the_rates_are_exactly_the_schedule_s() -> None:
    for schedule in ("step", "cosine"):
        off, of_one_step = (
            ours(config_of(OptimiserConfig, schedule=schedule, warmup=warmup)) for warmup in (0, 1)
        )
        assert off == of_one_step
        assert off[0] == 1e-4


@pytest.mark.parametrize("period", [1, 2, 250, 999])
def test_cosine_begins_anew_after_each_period_as_torch_s_with_warm_restarts(period: int) -> None:
    config = config_of(
        OptimiserConfig, learning_rate=2e-4, schedule="cosine", period=period, final=1e-7
    )
    expected = rates_of(
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, period, eta_min=1e-7), 2e-4
    )
    assert ours(config) == pytest.approx(expected, rel=1e-9)


def test_cosine_is_basicsr_s_but_for_the_one_step_after_each_period() -> None:
    # CosineAnnealingRestartLR, written from its formula: a period's last point belongs to that period.
    period, config = (
        100,
        config_of(OptimiserConfig, learning_rate=2e-4, schedule="cosine", period=100, final=1e-7),
    )

    def basicsr(done: int) -> float:
        restart = max(0, math.ceil(done / period) - 1) * period
        return 1e-7 + 0.5 * (2e-4 - 1e-7) * (1 + math.cos(math.pi * (done - restart) / period))

    for done in range(400):
        if done % period == 0 and done:
            assert (basicsr(done), learning_rate(done, config)) == (
                pytest.approx(1e-7),
                pytest.approx(2e-4),
            )
        else:
            assert learning_rate(done, config) == pytest.approx(basicsr(done), rel=1e-12)


def test_the_paper_s_rates() -> None:
    rates = {
        done: learning_rate(done, config_of(OptimiserConfig))
        for done in (0, 4999, 5000, 9999, 10000, 20000, 30000, 59999)
    }
    assert rates == {0: 1e-4, 4999: 1e-4, 5000: 5e-5, 9999: 5e-5, 10000: 2.5e-5,
                     20000: 1.25e-5, 30000: 6.25e-6, 59999: 6.25e-6}  # fmt: skip


def test_a_rate_of_zero_stays_zero() -> None:
    for config in (
        config_of(OptimiserConfig, learning_rate=0),
        config_of(OptimiserConfig, learning_rate=0, schedule="cosine", final=0),
    ):
        check_optimiser(config)
        assert set(ours(config, 10)) == {0.0}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learning_rate": -1e-4}, "optimiser.learning_rate=-0.0001: expected 0 or more"),
        ({"learning_rate": math.nan}, "optimiser.learning_rate=nan"),
        ({"learning_rate": math.inf}, "optimiser.learning_rate=inf"),
        ({"schedule": "linear"}, "optimiser.schedule=linear: expected one of step, cosine"),
        ({"schedule": "cosine", "period": 0}, "optimiser.period=0: expected 1 or more"),
        ({"schedule": "cosine", "final": -1.0}, "optimiser.final=-1.0: expected 0 or more"),
        (
            {"schedule": "cosine", "final": 1.0},
            "optimiser.final=1.0: expected at most optimiser.learning_rate",
        ),
        (
            {"milestones": [5, 3]},
            r"optimiser.milestones=\[5, 3\]: expected ascending steps above 0",
        ),
        ({"milestones": [5, 5]}, r"optimiser.milestones=\[5, 5\]"),
        ({"milestones": [0]}, r"optimiser.milestones=\[0\]"),
        ({"decay": 0.0}, "optimiser.decay=0.0: expected above 0, at most 1"),
        ({"decay": 2.0}, "optimiser.decay=2.0"),
        ({"beta1": 1.0}, "optimiser.beta1=1.0: expected from 0 to below 1"),
        ({"beta2": -0.1}, "optimiser.beta2=-0.1"),
        ({"warmup": -1}, "optimiser.warmup=-1: expected 0 or more"),
        ({"max_gradient_norm": 0.0}, "optimiser.max_gradient_norm=0.0: expected above 0, or null"),
    ],
)
def test_what_is_no_schedule_is_an_error(values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_optimiser(config_of(OptimiserConfig, **values))  # type: ignore[arg-type]


def test_what_can_be_had_passes() -> None:
    for milestones, schedule in itertools.product(([], [1], [1, 2, 9]), ("step", "cosine")):
        check_optimiser(config_of(OptimiserConfig, milestones=milestones, schedule=schedule))


def test_averages_are_of_the_last_steps_however_few_there_are() -> None:
    for steps in (20, 200, 2000):
        decays = [ema_decay(step, 0.999) for step in range(steps)]
        assert all(a <= b for a, b in itertools.pairwise(decays))
        weights = [(1 - decay) * math.prod(decays[step + 1 :]) for step, decay in enumerate(decays)]
        age = sum(weight * (steps - step) for step, weight in enumerate(weights)) / sum(weights)
        assert 0.05 * steps < age < 0.2 * steps
        assert math.prod(decays) < 0.001, "nothing of the beginning is left"
    assert ema_decay(60000, 0.999) == 0.999
    assert ema_decay(60000, 0.0) == 0.0
