import json

import numpy as np
import pytest

from realsr.imaging import read_uint8, write_uint8
from realsr.imaging.kernel_shapes import save_kernel
from realsr.pools.pool_statistics import measure_pool
from realsr.reporting.pages import Cards
from realsr.reporting.pool_figures import KERNEL_SIDE, WINDOW, draw_sheet, paint_kernel
from realsr.reporting.pool_page import (
    compare_pools,
    describe_pool,
    format_comparison,
    format_pool,
    make_pool_sections,
)
from realsr.simulation.camera_model import anisotropic_kernel


@pytest.fixture
def make_pool(tmp_path):
    def make(name, sigma=1.5, level=3.0, scales=(2, 4), count=2, patches=3):
        for scale in scales:
            for index in range(count):
                path = tmp_path / name / "kernels" / f"photo{index}_kernel_x{scale}.mat"
                path.parent.mkdir(parents=True, exist_ok=True)
                save_kernel(
                    path,
                    anisotropic_kernel(
                        8 * scale + 5, (sigma * scale / 2, scale / 2), 30 * index, scale
                    ),
                )
        for index in range(patches):
            path = tmp_path / name / "noise" / f"photo_{index:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(index).normal(128, level, (32, 32, 3))
            write_uint8(path, noise.round().astype(np.uint8))
        return measure_pool(tmp_path / name)

    return make


@pytest.mark.parametrize(
    "lacking", [{"patches": 0}, {"count": 0}, {"scales": (4,)}, {"count": 1, "patches": 1}]
)
def test_two_pools_are_shown_and_compared_whatever_one_lacks(lacking, make_pool):
    one, two = make_pool("one"), make_pool("two", sigma=2.5, **lacking)
    for pools in ([one, two], [two, one], [two]):
        sections = make_pool_sections(pools)
        cards = [block for s in sections for block in s.blocks if isinstance(block, Cards)]
        count = sum(len(pool.patches) for pool in pools)
        count += sum(len(part.kernels) for pool in pools for part in pool.kernels.values())
        assert sum(len(block.cards) for block in cards) == count
    for text in (format_comparison(one, two), format_comparison(two, one), format_pool(two)):
        assert "nan" not in text
    json.dumps([compare_pools(one, two), describe_pool(two)], allow_nan=False)


def test_tables_say_what_is_there_and_what_is_not(make_pool):
    text = format_pool(make_pool("one", count=3))
    assert "kernels for scale 4: 3" in text
    assert "photo2" in text
    assert "noise patches: 3" in text
    assert "and 4 more, in pool.json" in format_pool(make_pool("many", count=24))
    bare = make_pool("bare", patches=0, scales=(2,))
    assert "no noise patches" in format_pool(bare)
    text = format_comparison(make_pool("one"), bare)
    assert "kernels for scale 4: none in B" in text
    assert "noise patches: in A only" in text
    assert "no kernels" in format_pool(make_pool("grain", count=0))


def test_a_comparison_is_second_minus_first(make_pool):
    one, two = make_pool("one"), make_pool("two", sigma=2.5, level=6)
    found = compare_pools(one, two)
    assert found["noise"]["level_ratio"] == pytest.approx([2, 2, 2], rel=0.05)
    assert found["kernels"]["x2"]["spread"] == pytest.approx([1.0, 0.0], abs=0.05)
    assert (
        min(found["kernels"]["x2"]["spectrum"])
        == -found["kernels"]["x2"]["largest_spectrum_difference"]
    )
    same = compare_pools(one, one)
    assert same["kernels"]["x4"]["largest_spectrum_difference"] == 0
    assert not np.any(same["noise"]["autocorrelation"])
    lines = {line[2:40].strip(): line.split() for line in format_comparison(one, two).splitlines()}
    assert lines["level R"][-3:] == [f"{one.noise.level[0]:.3f}", f"{two.noise.level[0]:.3f}",
                                     f"{two.noise.level[0] - one.noise.level[0]:+.3f}"]  # fmt: skip


RED = (190, 30, 45)


def test_each_pixel_of_a_kernel_is_a_square():
    kernel = np.zeros((13, 13))
    kernel[6, 8] = 0.1
    painted = paint_kernel(kernel, WINDOW).astype(int)
    bright = painted.sum(2) > painted.sum(2).min()
    rows, columns = np.nonzero(bright)
    middle = WINDOW // 2
    assert (rows.min(), rows.max()) == (middle * 8, middle * 8 + 7)
    assert (columns.min(), columns.max()) == ((middle + 2) * 8, (middle + 3) * 8 - 1)
    assert np.array_equal(paint_kernel(kernel * 7, WINDOW), painted), "each at its own brightness"


def test_large_kernels_are_cut_around_their_middle():
    kernel = np.zeros((25, 25))
    kernel[12, 12] = 1
    small = np.zeros((13, 13))
    small[6, 6] = 1
    assert np.array_equal(paint_kernel(kernel, WINDOW), paint_kernel(small, WINDOW))
    assert paint_kernel(small, WINDOW).shape == (KERNEL_SIDE, KERNEL_SIDE, 3)


@pytest.fixture
def draw(tmp_path):
    def draw(count, rejected=()):
        path = tmp_path / "kernels" / "a_kernel_x2.mat"
        path.parent.mkdir(exist_ok=True)
        save_kernel(path, np.outer(np.hanning(17), np.hanning(17)))
        health = {"spread_long": 1.5, "spread_short": 1.2, "sum": 1.0, "agreement": 40.0}
        item = {"files": ["kernels/a_kernel_x2.mat"], "health": health, "rejected": []}
        reasons = {"rejected": ["a reason of some length that is wrapped"] * 2}
        items = {f"photo {i:04}": item | (reasons if i in rejected else {}) for i in range(count)}
        draw_sheet(tmp_path / "sheet.png", tmp_path, items)
        return read_uint8(tmp_path / "sheet.png")

    return draw


@pytest.mark.parametrize("count", [1, 4, 30])
def test_every_kernel_is_on_the_sheet_and_rejected_ones_are_red(draw, count):
    def red(picture):
        return int((picture == RED).all(axis=2).sum())

    sound = draw(count)
    assert red(sound) == 0
    first = red(draw(count, (0,)))
    assert first > 500
    assert red(draw(count, tuple(range(count)))) == pytest.approx(count * first, rel=0.2)
    tile = paint_kernel(np.outer(np.hanning(17), np.hanning(17)), WINDOW)
    brightest = tile[KERNEL_SIDE // 2, KERNEL_SIDE // 2]
    assert (sound == brightest).all(axis=2).sum() == count * (tile == brightest).all(axis=2).sum()


def test_a_sheet_of_photos_without_a_kernel(tmp_path):
    items = {
        "写真 of a very long name " * 9: {"files": [], "health": None, "rejected": ["x" * 300]}
    }
    draw_sheet(tmp_path / "sheet.png", tmp_path, items)
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]
    assert (read_uint8(tmp_path / "sheet.png") == 220).all(axis=2).sum() >= KERNEL_SIDE**2
