import math

import numpy as np
import pytest

from config_files import yaml_values
from realsr.core.errors import UserError
from realsr.imaging.kernel_shapes import postprocess
from realsr.kernels.estimator import HEALTH, measure_health
from realsr.kernels.gates import check_health, read_gates
from realsr.simulation.camera_model import anisotropic_kernel

GATES = yaml_values("kernels/kernelgan")["gates"] | yaml_values("kernels/spectral")["gates"]


def measure(raw: np.ndarray) -> dict[str, float]:
    numbers = measure_health(raw, postprocess(raw))
    assert tuple(numbers) == HEALTH
    return numbers


def square(size: int) -> np.ndarray:
    """A flat square of a size around the aligned centre, of sum 1."""
    raw = np.zeros((13, 13))
    raw[7 - size // 2 : 7 + size // 2, 7 - size // 2 : 7 + size // 2] = 1 / size**2
    return raw


@pytest.mark.parametrize("angle", [0, 35, 90, 150])
def test_spreads_are_those_of_the_gaussian_at_any_angle(angle):
    kernel = anisotropic_kernel(31, (2.5, 1.3), angle, scale=2)
    health = measure_health(kernel, kernel)
    assert health["spread_long"] == pytest.approx(2.5, abs=0.01)
    assert health["spread_short"] == pytest.approx(1.3, abs=0.01)


def test_entropy_of_known_kernels():
    for kernel, entropy in (
        (np.pad([[1.0]], 6), 0),
        (np.full((13, 13), 3.0), math.log2(169)),
        (square(4), 4),
    ):
        assert measure_health(kernel, kernel)["entropy"] == pytest.approx(entropy)


def test_numbers_of_the_raw_kernel():
    raw = 0.5 * square(8)
    raw[0, :5] = -0.02
    health = measure(raw)
    assert health["sum"] == pytest.approx(0.4)
    assert health["negative"] == pytest.approx(0.1 / 0.6)
    assert health["border"] == pytest.approx(0, abs=1e-9), "small values are noise"
    assert health["centre_offset"] == pytest.approx(0, abs=1e-9)
    assert measure(np.roll(square(4), (-1, 2), (0, 1)))["centre_offset"] == pytest.approx(5**0.5)
    assert measure(np.roll(square(4), 4, 0))["border"] == pytest.approx(1 / 4)


def gaussian(sigma: float, **changes) -> np.ndarray:
    return anisotropic_kernel(13, (sigma, changes.pop("short", sigma)), 30, scale=2) * changes.pop(
        "total", 1
    )


@pytest.mark.parametrize(
    "raw",
    [
        gaussian(0.7),
        gaussian(1.5),
        gaussian(2.5),
        gaussian(2.5, short=0.7),
        gaussian(1.5, total=0.36),
        square(2),
    ],
)
def test_sound_kernels_pass(raw):
    assert check_health(measure(raw), GATES) == []


@pytest.mark.parametrize(
    ("raw", "gates"),
    [
        (gaussian(1.5, total=0.004), {"min_sum"}),
        (gaussian(1.5, total=2), {"max_sum"}),
        (np.roll(gaussian(1), 2, 0), {"max_centre_offset"}),
        (
            np.ones((13, 13)) / 169 + np.pad([[0.001]], 6),
            {"max_border", "max_entropy", "max_spread_long"},
        ),
        (gaussian(1.5) - 0.3 * np.roll(gaussian(1), 4, 1), {"max_negative"}),
    ],
)
def test_broken_kernels_fail_the_gate_that_is_meant_for_them(raw, gates):
    reasons = check_health(measure(raw), GATES)
    assert {reason.split()[-2] for reason in reasons} >= gates
    assert check_health(measure(raw), dict.fromkeys(GATES)) == []


def test_golden_raw_kernel_is_sound(golden):
    arrays = golden("kernel_postprocess.npz")
    health = measure_health(arrays["raw_x2"], arrays["final_x2"])
    assert check_health(health, GATES) == []


def test_each_gate_is_a_limit_of_one_number():
    health = measure(gaussian(1.5)) | {
        "agreement": 30.0,
        "residual": 0.1,
        "bicubic": 0.01,
        "discriminator": 0.2,
    }
    health |= {"signal": 0.9}
    for gate in GATES:
        side, name = gate.split("_", 1)
        value, off = health[name], dict.fromkeys(GATES)
        for limit, passes in (
            (value, True),
            (value + 1e-6, side == "max"),
            (value - 1e-6, side == "min"),
        ):
            assert (check_health(health, off | {gate: limit}) == []) == passes, gate
        assert check_health(health | {name: math.nan}, off | {gate: 1.0})


def test_one_seed_cannot_disagree():
    assert check_health(measure(gaussian(1.5)), {"min_agreement": 1e9}) == []
    assert check_health({"agreement": None}, {"min_agreement": 1e9}) == [], (
        "as earlier versions record it"
    )


def test_gates_are_read_and_refused() -> None:
    assert read_gates(None, "kernels.gates", HEALTH) == {}
    assert read_gates({"min_sum": 1, "max_sum": None}, "kernels.gates", HEALTH) == {
        "min_sum": 1,
        "max_sum": None,
    }
    refused = {
        (
            "max_x",
            9,
        ): r"kernels.gates.max_x: expected min_ or max_ and the name of .*\(sum, .*entropy",
        ("sum", 1): "kernels.gates.sum: expected min_ or max_",
        ("min_sum", "much"): "kernels.gates.min_sum=much: expected a number",
        ("min_sum", math.nan): "kernels.gates.min_sum=nan: expected a finite number",
        ("min_sum", True): "kernels.gates.min_sum=True: expected a number",
    }
    for (gate, limit), message in refused.items():
        with pytest.raises(UserError, match=message):
            read_gates({gate: limit}, "kernels.gates", HEALTH)
    with pytest.raises(UserError, match=r"kernels.gates=3: expected keys and values in braces"):
        read_gates(3, "kernels.gates", HEALTH)
