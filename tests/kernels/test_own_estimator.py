"""Faults of an estimator of the user's own: each is named, before anything wrong is recorded."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config_files import yaml_values
from realsr.core.errors import UserError
from realsr.kernels.estimation import KernelPool
from realsr.provenance.manifest import read_manifest
from stages import estimate_kernels, make_estimator

MODULE = """
import numpy as np
from realsr.kernels.estimator import KernelEstimate, KernelEstimator, NoKernelError, Observation
from realsr.kernels.gaussian import aligned_gaussian


def draw(scale):
    return aligned_gaussian(scale**2 * np.eye(2), scale)


class Own(KernelEstimator):
    numbers = ("width",)
    joint = {joint}

    def observe_photo(self, photo):
        return {observation}

    def estimate(self, observations, seed):
        numbers, facts = {{"width": {width}}}, {facts}
        estimate = KernelEstimate({kernels}, numbers, facts)
        return {estimates}
"""
SOUND = {
    "joint": "False",
    "observation": "Observation({})",
    "width": "1.0",
    "facts": "{}",
    "kernels": "{2: [draw(2)], 4: [draw(4)]}",
    "estimates": "dict.fromkeys(observations, estimate)",
}
Stage = Callable[..., KernelPool]


@pytest.fixture
def stage(make_photos: Callable[..., Path], own_modules: Path) -> Stage:
    """Runs the stage with a sound estimator, some expressions of which are replaced."""
    source = make_photos(dict.fromkeys("abc", (70, 80)))

    def run(append: str = "", gates: object = None, **changes: str) -> KernelPool:
        sys.modules.pop("faulty", None)
        (own_modules / "faulty.py").write_text(MODULE.format(**SOUND | changes) + append)
        values = {"name": "faulty.Own", "gates": gates}
        return estimate_kernels(source, own_modules / "pool", values, 4)

    return run


def check_refusal(stage: Stage, pool: Path, message: str, **changes: Any) -> None:
    """Check the message, and that a repaired estimator then makes all kernels."""
    with pytest.raises(UserError, match=message):
        stage(**changes)
    assert not list(pool.rglob("*.mat"))
    assert not read_manifest(pool).get("kernels", {}).get("items")
    stage(joint=changes.get("joint", "False")).check()
    assert len(list(pool.glob("kernels/*.mat"))) == 6


@pytest.mark.parametrize("value", ["None", "[1, None]", "np.array([{}])"])
def test_an_observation_that_numpy_would_pickle_is_refused(
    value: str, stage: Stage, tmp_path: Path
) -> None:
    check_refusal(
        stage,
        tmp_path / "pool",
        r"estimator faulty\.Own: observation lens of photo a is .*: expected a number, text or",
        joint="True",
        observation=f"Observation({{'lens': {value}}})",
    )


@pytest.mark.parametrize(
    ("kernels", "message"),
    [
        ("{2: draw(2), 4: draw(4)}", r"an array of shape \(17,\): expected a square 2-D array"),
        ("{4: [draw(4)[:, 1:]]}", r"an array of shape \(33, 32\): expected a square"),
        ("{2: [], 4: []}", "an empty list for scale 2: expected 1 kernel or more"),
        ("{2: [draw(2)]}", r"kernels for the scales \[2\]: expected scale 4$"),
        (
            "{4: [draw(4) * np.nan]}",
            "a kernel with nan or infinite values: expected .* finite numbers with sum 1",
        ),
        (
            "{4: [draw(4), 2 * draw(4)]}",
            "a kernel with sum 2: expected .* finite numbers with sum 1",
        ),
    ],
)
def test_kernels_are_checked_before_they_are_recorded(
    kernels: str, message: str, stage: Stage, tmp_path: Path
) -> None:
    message = rf"estimator faulty\.Own: estimate returned for photo a .*{message}"
    check_refusal(stage, tmp_path / "pool", message, kernels=kernels)


def test_x2_kernels_suffice_if_the_estimator_derives_others(stage: Stage, tmp_path: Path) -> None:
    derive = "\n    def derive(self, kernel, scale):\n        return "
    only_x2 = "{2: [draw(2)]}"
    message = r"derive for scale 4 returned an array of shape \(33,\)"
    with pytest.raises(UserError, match=message):
        stage(derive + "draw(scale)[0]", kernels=only_x2)
    with pytest.raises(UserError, match=r"derive for scale 4 failed: KeyError.*faulty\.py, line"):
        stage(derive + "{}[scale]", kernels=only_x2)
    stage(derive + "draw(scale)", kernels=only_x2).check()
    assert len(list(tmp_path.glob("pool/kernels/*_x4.mat"))) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observation": "{}['lens']"}, r"observe_photo of photo a failed: KeyError: 'lens' \(.*"),
        ({"observation": "{}"}, "observe yields dict for photo a: expected an Observation"),
        ({"estimates": "{}['lens']"}, r"estimate failed: KeyError: 'lens' \(.*faulty\.py, line"),
        ({"estimates": "None"}, "estimate returned NoneType: expected estimates by name"),
        ({"estimates": "{}"}, "estimate returned nothing for the photos a"),
        ({"estimates": "dict.fromkeys('abc', 1)"}, "for photo a int: expected a KernelEstimate"),
        ({"width": "'wide'"}, "the estimate for photo a failed: ValueError: could not convert"),
        ({"facts": "{'x': np.float32(1)}"}, "photo a failed: TypeError: .*float32 is not JSON"),
        ({"facts": "{'health': 1}"}, "for photo a facts with the reserved names health"),
    ],
)
def test_a_fault_is_named_with_its_place(
    changes: dict[str, str], message: str, stage: Stage, tmp_path: Path
) -> None:
    check_refusal(stage, tmp_path / "pool", rf"estimator faulty\.Own: .*{message}", **changes)


def test_a_photo_without_an_outcome_and_an_unknown_one_are_named(stage: Stage) -> None:
    observe = "\n    def observe(self, photos, seed, advance):\n        yield "
    with pytest.raises(UserError, match="observe yields nothing for the photos b, c"):
        stage(observe + "{'a': Observation({})}")
    with pytest.raises(UserError, match=r"observe yields unknown photos: z"):
        stage(observe + "{'z': Observation({})}")


def test_a_number_of_numpy_is_recorded_as_a_number(stage: Stage) -> None:
    pool = stage(width="np.float32(1.5)")
    assert pool.items["a"]["health"] == {"width": 1.5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("class Own: pass", "has inputs=None: expected text; a subclass of realsr"),
        ("Own.scales = 4", "has scales=4: expected a list of scales"),
        ("Own.numbers = 'width'", "has numbers='width': expected a list of names"),
        ("Own.estimate = None", "has estimate=None: expected a method"),
        ("Own.inputs = 'raw'", "has inputs='raw' and no list_items"),
    ],
)
def test_an_attribute_of_the_role_is_checked(change: str, message: str, own_modules: Path) -> None:
    (own_modules / "faulty.py").write_text(MODULE.format(**SOUND) + "\n" + change)
    with pytest.raises(UserError, match=rf"kernels\.name=faulty\.Own: {message}"):
        make_estimator({"name": "faulty.Own"}, "kernels", 4)


def test_photos_are_counted_however_many_kernels_they_have(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    draws = "{4: [draw(4), draw(4)]}"
    with caplog.at_level(logging.WARNING):
        stage(kernels=draws, gates={"max_width": 0.5})
    assert "3 of 3 photos have no usable kernel" in caplog.text


def test_gates_that_no_photo_passes_are_named_with_their_limits(
    make_photos: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = make_photos({"a": (150, 120), "b": (100, 130)})
    values = yaml_values("kernels/spectral") | {"gates": {"max_residual": 1e-6, "min_signal": 0}}
    pool = estimate_kernels(source, tmp_path / "pool", values, 4)
    low, high = np.sort([item["health"]["residual"] for item in pool.items.values()])
    numbers = rf"max_residual=1e-06 \(residual {low:.3g} to {high:.3g} in 2 photos\)"
    with pytest.raises(UserError, match=f"none of 2 photos .*{numbers}") as error:
        pool.check()
    for text in (str(error.value), caplog.text):
        assert not any(key in text for key in ("seeds", "min_sum", "min_signal", "kernels="))
