"""Pairs whose LR is shifted are reported by check_data and evaluate, and only these."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from skimage import data
from small_work import Command, write_photos

from realsr.data.alignment import measure_alignment
from realsr.imaging import read_uint8, shrink_uint8, write_uint8


@pytest.fixture
def validation(tmp_path: Path) -> Path:
    """Two pairs at scale 2; the LR of `b` lies 1 pixel down and right."""
    folder = tmp_path / "valid"
    for index, name in enumerate("ab"):
        hr = data.astronaut()[100 * index : 100 * index + 160, 100:300]
        lr = shrink_uint8(np.ascontiguousarray(hr), 2)
        for kind, image in (("HR", hr), ("LR", np.roll(lr, index, (0, 1)))):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            write_uint8(folder / kind / f"{name}.png", np.ascontiguousarray(image))
    return folder


def test_shifted_pairs_are_reported(command: Command, validation: Path, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", "p", (64, 64))
    check = ["check_data", "+track=dped", "data.source=photos", "data.validation=valid", "scale=2"]
    evaluate = ["evaluate", "weights=[bicubic]", "data.hr=valid/HR", "data.lr=valid/LR", "scale=2"]
    for outcome in (command(*check), command(*evaluate, "output=out")):
        assert outcome.code == 0, outcome.log
        assert "1 of 2 pairs are misaligned or differ in brightness. The worst is b" in outcome.log
    facts = json.loads((tmp_path / "out/metrics.json").read_text())["alignment"]
    assert facts["a"]["down"] == pytest.approx(0, abs=0.05)
    assert facts["b"]["down"] == pytest.approx(1, abs=0.1)
    for kind in ("HR", "LR"):
        shutil.copy(validation / kind / "a.png", validation / kind / "b.png")
    assert "LR and HR of 2 pairs are aligned" in command(*check).log
    assert "misaligned" not in command(*evaluate).log


def test_a_real_pair_of_one_phone_differs_in_colour(shared: Callable[[str], Path]) -> None:
    folder = shared("data/paired_real_city100_iphonex")
    alignment = measure_alignment(
        read_uint8(folder / "001L.PNG"), read_uint8(folder / "001H.PNG"), scale=1
    )
    assert alignment.down == pytest.approx(-0.13, abs=0.05)
    assert alignment.right == pytest.approx(-0.05, abs=0.05)
    assert alignment.brightness[2] == pytest.approx(5.3, abs=0.1)
    assert not alignment.is_good
