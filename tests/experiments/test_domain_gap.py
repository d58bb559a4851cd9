"""experiments/domain_gap: what its degradations are at both ends of the distance."""

import sys
from pathlib import Path

import numpy as np
import pytest

from realsr.imaging import shrink_uint8

STUDY = Path(__file__).parents[2] / "experiments" / "domain_gap"


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(STUDY))
    monkeypatch.delitem(sys.modules, "study", raising=False)
    import study

    yield study
    sys.modules.pop("study", None)


def test_the_distance_goes_from_the_camera_to_bicubic(study) -> None:
    scene = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    np.testing.assert_array_equal(
        study.degrade(scene, "a", 1, 1, study.STUDY_CAMERA), shrink_uint8(scene, 2)
    )
    flat = np.full((128, 128, 3), 128, np.uint8)
    levels = [study.degrade(flat, "a", 0, noise, study.STUDY_CAMERA).std() for noise in (0, 0.5, 1)]
    assert 2 < levels[0] < 3.1
    assert levels[1] == pytest.approx(levels[0] / 2, rel=0.1)
    assert levels[2] == 0
    spread = [study.degrade(scene, "a", blur, 1, study.STUDY_CAMERA).std() for blur in (0, 0.5, 1)]
    assert spread[0] < spread[1] < spread[2]
