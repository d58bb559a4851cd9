from pathlib import Path

import numpy as np
import pytest

from realsr.imaging import read_uint8
from realsr.reporting.kernel_sheet import (
    ENLARGED,
    PICTURE,
    RED,
    KernelTile,
    choose_evenly,
    paint_kernel,
    write_kernel_sheet,
)


def tiles(count: int, rejected: tuple[int, ...] = ()) -> list[KernelTile]:
    kernel = np.outer(np.hanning(17), np.hanning(17))
    return [
        KernelTile(f"photo {i}", kernel, ["spread", "sum"], ["a reason of some length"] * 2 if i in rejected else [])
        for i in range(count)
    ]


def red(path: Path) -> int:
    return int((read_uint8(path) == RED).all(axis=2).sum())


def test_each_pixel_of_a_kernel_is_a_square():
    kernel = np.zeros((13, 13))
    kernel[6, 8] = 0.1
    painted = paint_kernel(kernel).astype(int)
    bright = painted.sum(2) > painted.sum(2).min()
    rows, columns = np.nonzero(bright)
    middle = PICTURE // ENLARGED // 2
    assert (rows.min(), rows.max()) == (middle * ENLARGED, middle * ENLARGED + ENLARGED - 1)
    assert (columns.min(), columns.max()) == ((middle + 2) * ENLARGED, (middle + 3) * ENLARGED - 1)
    assert np.array_equal(paint_kernel(kernel * 7), painted), "each at its own brightness"


def test_large_kernels_are_cut_around_their_middle():
    kernel = np.zeros((25, 25))
    kernel[12, 12] = 1
    small = np.zeros((13, 13))
    small[6, 6] = 1
    assert np.array_equal(paint_kernel(kernel), paint_kernel(small))
    assert paint_kernel(None).shape == paint_kernel(small).shape


@pytest.mark.parametrize("count", [1, 4, 30])
def test_every_kernel_is_on_the_sheet_and_rejected_ones_are_red(tmp_path, count):
    write_kernel_sheet(tmp_path / "sound.png", tiles(count), "title")
    write_kernel_sheet(tmp_path / "one.png", tiles(count, (0,)), "title")
    write_kernel_sheet(tmp_path / "all.png", tiles(count, tuple(range(count))), "title")
    assert red(tmp_path / "sound.png") == 0
    assert red(tmp_path / "one.png") > 500
    assert red(tmp_path / "all.png") == pytest.approx(count * red(tmp_path / "one.png"), rel=0.2)
    brightest = paint_kernel(tiles(1)[0].kernel)[PICTURE // 2, PICTURE // 2]
    found = (read_uint8(tmp_path / "sound.png") == brightest).all(axis=2).sum()
    assert found == count * (paint_kernel(tiles(1)[0].kernel) == brightest).all(axis=2).sum()


def test_the_sheet_is_capped_evenly():
    names = [f"{i:04}" for i in range(5614)]
    shown = choose_evenly(names)
    assert len(shown) == len(set(shown)) == 400
    assert (shown[0], shown[-1]) == (names[0], names[-1])
    steps = np.diff([int(name) for name in shown])
    assert steps.max() - steps.min() <= 1
    assert choose_evenly(names[:400]) == names[:400]


def test_names_of_any_length_and_kind(tmp_path):
    odd = KernelTile("写真 of a very long name " * 9, None, [], ["x" * 300])
    write_kernel_sheet(tmp_path / "sheet.png", [odd], "a title " * 40)
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]
