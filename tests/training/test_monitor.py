"""What the watch says of values that are handed to it as a training would."""

import logging
import math

import pytest
import torch

from realsr.core.errors import UserError
from realsr.training.monitor import COLLAPSE_RATIO, SATURATED_STEPS, TrainingMonitor
from realsr.training.step import Outcome

GOOD = {
    "variance/SR": 0.09, "variance/HR": 0.1, "loss/pixel": 0.1, "loss/generator": 0.2, "discriminator/accuracy": 0.7,
    "gradient/generator/a.weight": 3.0, "gradient/generator/b.weight": 4.0, "gradient/discriminator/c.bias": 2.0,
}  # fmt: skip


def outcome(**changed: float) -> Outcome:
    values = GOOD | {
        name.replace("__", "/").replace("_dot_", "."): value for name, value in changed.items()
    }
    finite = all(math.isfinite(value) for value in values.values())
    values |= {"stop": values.get("stop", 0.0), "skipped": float(not finite)}
    return Outcome(list(values), torch.tensor(list(values.values())))


def watch(max_skipped: int = 2) -> TrainingMonitor:
    return TrainingMonitor(max_skipped, torch.amp.GradScaler("cpu", enabled=False))


def test_a_summary_has_one_gradient_norm_a_network() -> None:
    seen = watch()
    seen.follow(1, outcome())
    summary = seen.summary()
    assert summary["gradient/generator"] == pytest.approx(5.0)
    assert summary["gradient/discriminator"] == pytest.approx(2.0)
    assert summary["loss/pixel"] == pytest.approx(0.1)
    assert not {"skipped", "stop", "gradient/generator/a.weight"} & summary.keys()


def test_a_skipped_step_is_told_with_term_and_tensor(caplog: pytest.LogCaptureFixture) -> None:
    seen = watch()
    seen.follow(7, outcome(loss__pixel=math.nan, gradient__generator__b_dot_weight=math.inf))
    assert "step 7 skipped" in caplog.text
    assert "loss/pixel (nan)" in caplog.text
    assert "gradient/generator/b.weight (inf)" in caplog.text
    assert "variance" not in caplog.text


def test_too_many_skipped_in_a_row_stop_and_a_good_one_between_does_not() -> None:
    seen = watch(max_skipped=2)
    for step, value in enumerate([math.nan, math.nan, 0.1, math.nan, math.nan], 1):
        seen.follow(step, outcome(loss__pixel=value))
    again = watch(max_skipped=2)
    again.load_state_dict(seen.state_dict())  # as after resuming
    with pytest.raises(
        UserError,
        match=r"step 6 .*3 steps in a row were skipped, more than trainer\.max_skipped=2.*checkpoints are valid",
    ):
        again.follow(6, outcome(loss__pixel=math.nan))


def test_overflowing_gradients_of_fp16_are_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    seen = TrainingMonitor(0, scaler)
    seen.follow(1, outcome(gradient__generator__a_dot_weight=math.inf))
    assert not caplog.text
    with pytest.raises(UserError, match="loss/pixel"):
        seen.follow(2, outcome(loss__pixel=math.nan))


@pytest.mark.parametrize(("accuracy", "message"), [(1.0, "always right"), (0.0, "always wrong")])
def test_a_discriminator_pinned_to_an_end_is_told_once(
    accuracy: float, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    seen = watch()
    for step in range(1, 2 * SATURATED_STEPS):
        seen.follow(step, outcome(discriminator__accuracy=accuracy))
    assert caplog.text.count(message) == 1
    assert f"step {SATURATED_STEPS}:" in caplog.text
    caplog.clear()
    seen.follow(3000, outcome())
    for step in range(3001, 3000 + SATURATED_STEPS):
        seen.follow(step, outcome(discriminator__accuracy=accuracy))
    assert not caplog.text, "one step in doubt begins the count anew"


def test_falling_variance_is_told_once_but_not_that_of_a_beginning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen = watch()
    for step in range(600):  # from black to HR's variance, and above for a while
        seen.follow(step, outcome(variance__SR=min(0.13, 0.0005 * step)))
    for step in range(600, 1200):
        seen.follow(step, outcome(variance__SR=0.07))
    assert not caplog.text
    for step in range(1200, 2000):
        seen.follow(step, outcome(variance__SR=0.1 * COLLAPSE_RATIO / 2))
    assert caplog.text.count("may be collapsing") == 1
    resumed = watch()
    resumed.load_state_dict(seen.state_dict())
    resumed.follow(2000, outcome(variance__SR=0.01))
    assert caplog.text.count("may be collapsing") == 1


def test_a_wish_to_stop_is_seen() -> None:
    seen = watch()
    seen.follow(1, outcome())
    assert not seen.stop
    seen.follow(2, outcome(stop=0.25))  # one process of four
    assert seen.stop


def test_nothing_is_told_in_good_times(caplog: pytest.LogCaptureFixture) -> None:
    seen = watch()
    with caplog.at_level(logging.INFO):
        for step in range(1000):
            seen.follow(step, outcome(discriminator__accuracy=0.9))
    assert not caplog.text
