import time
from pathlib import Path

import numpy as np
import pytest

from realsr.data.pairs import Pair, hold_out_regions, list_pairs
from realsr.imaging import read_uint8, write_uint8

SCALE, CROP = 4, 64


@pytest.fixture
def pairs(tmp_path: Path) -> list[Pair]:
    """A wide, a high and a small pair."""
    rng = np.random.default_rng(0)
    for name, (height, width) in {"wide": (20, 100), "high": (90, 40), "small": (20, 24)}.items():
        for kind, factor in (("HR", SCALE), ("LR", 1)):
            (tmp_path / "pairs" / kind).mkdir(parents=True, exist_ok=True)
            image = rng.integers(0, 256, (height * factor, width * factor, 3)).astype(np.uint8)
            write_uint8(tmp_path / "pairs" / kind / f"{name}.png", image)
    return list_pairs(tmp_path / "pairs", SCALE)


def hold_out(pairs: list[Pair], folder: Path, count: int = 8) -> tuple[list[Pair], list[Pair]]:
    return hold_out_regions(pairs, folder, SCALE, CROP, count, seed=0)


def test_part_and_region_make_the_pair_along_its_longer_side(
    pairs: list[Pair], tmp_path: Path
) -> None:
    training, regions = hold_out(pairs, tmp_path / "work")
    assert [pair.name for pair in training] == [pair.name for pair in pairs]
    assert [pair.name for pair in regions] == ["high", "wide"]
    for kind, factor in (("hr", SCALE), ("lr", 1)):
        for name, axis, length in (("high", 0, 90), ("wide", 1, 100)):
            part, region, whole = (
                read_uint8(getattr(next(p for p in group if p.name == name), kind))
                for group in (training, regions, pairs)
            )
            np.testing.assert_array_equal(np.concatenate([part, region], axis), whole)
            assert region.shape[axis] == factor * round(0.2 * length)
    small = [next(pair for pair in group if pair.name == "small") for group in (training, pairs)]
    assert small[0] == small[1], "its part would be smaller than a crop"


def test_a_region_has_64_pixels_or_more(tmp_path: Path) -> None:
    for kind, side in (("HR", 200), ("LR", 50)):
        (tmp_path / kind).mkdir()
        write_uint8(tmp_path / kind / "a.png", np.zeros((side, side, 3), np.uint8))
    _, regions = hold_out(list_pairs(tmp_path, SCALE), tmp_path / "work")
    assert read_uint8(regions[0].hr).shape == (64, 200, 3)


def test_up_to_count_pairs_are_split_and_others_do_not_change_the_draw(
    pairs: list[Pair], tmp_path: Path
) -> None:
    _, (first,) = hold_out(pairs, tmp_path / "work", count=1)
    rest = [pair for pair in pairs if pair.name != first.name]
    _, (second,) = hold_out(rest, tmp_path / "work", count=1)
    assert {first.name, second.name} == {"high", "wide"}


def test_a_repeated_split_changes_no_file_and_other_images_do(
    pairs: list[Pair], tmp_path: Path
) -> None:
    training, _ = hold_out(pairs, tmp_path / "work")
    file = next(pair for pair in training if pair.name == "wide").lr
    before = file.stat()
    time.sleep(0.02)
    hold_out(pairs, tmp_path / "work")
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    write_uint8(tmp_path / "pairs/LR/wide.png", np.zeros((20, 100, 3), np.uint8))
    hold_out(pairs, tmp_path / "work")
    assert not read_uint8(file).any()
