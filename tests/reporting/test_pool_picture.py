import json

import cv2
import numpy as np
import pytest
from PIL import Image

from realsr.imaging import write_uint8
from realsr.imaging.kernel_shapes import save_kernel
from realsr.pools.pool_statistics import measure_pool
from realsr.reporting.canvas import below, beside, blank, heat_matrix, label
from realsr.reporting.pool_picture import write_pool_picture
from realsr.reporting.pool_table import compare_pools, describe_pool, format_comparison, format_pool
from realsr.simulation.camera import anisotropic_kernel


@pytest.fixture
def make_pool(tmp_path):
    def make(name, sigma=1.5, level=3.0, scales=(2, 4), count=2, patches=3):
        for scale in scales:
            for index in range(count):
                path = tmp_path / name / "kernels" / f"photo{index}_kernel_x{scale}.mat"
                path.parent.mkdir(parents=True, exist_ok=True)
                save_kernel(path, anisotropic_kernel(8 * scale + 5, (sigma * scale / 2, scale / 2), 30 * index, scale))
        for index in range(patches):
            path = tmp_path / name / "noise" / f"photo_{index:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(index).normal(128, level, (32, 32, 3))
            write_uint8(path, noise.round().astype(np.uint8))
        return measure_pool(tmp_path / name)

    return make


def test_blocks_keep_their_content_and_their_order():
    red, blue = np.zeros((4, 6, 3), np.uint8), np.full((8, 2, 3), 7, np.uint8)
    row = beside([red, blue], 3)
    assert row.shape == (8, 11, 3)
    assert (row[:4, :6] == 0).all()
    assert (row[:, 9:] == 7).all()
    assert (row[4:, :9] == 255).all()
    column = below([red, blue], 2)
    assert column.shape == (14, 6, 3)
    assert (column[6:, :2] == 7).all()
    assert beside([red], 5).shape == red.shape
    assert beside([red, red], 0).shape == (4, 12, 3)


def test_text_is_cut_to_fit_and_a_matrix_has_its_strongest_colour_on_the_diagonal():
    assert label("a name that is far too long for its place", 60).shape == (18, 60, 3)
    assert (label("i", 60) < 200).any()
    assert (blank(2, 3) == 255).all()
    matrix = heat_matrix(np.array([[1, 0.1], [0.1, 1]]), "AB", (0, 0, 200), cell=40)
    assert matrix[21, 21].tolist() < matrix[21, 61].tolist()


def test_the_picture_of_a_pool_has_a_tile_for_each_kernel_and_patch(make_pool, tmp_path):
    pool = make_pool("one")
    write_pool_picture(tmp_path / "pool.png", [pool])
    with Image.open(tmp_path / "pool.png") as picture:
        image = np.asarray(picture.convert("RGB"))
    assert image.shape[1] == 1198
    black = (image.max(axis=2) < 12).astype(np.uint8)  # what a kernel's tile is outside the kernel
    boxes = cv2.connectedComponentsWithStats(black)[2][1:]
    assert sum(box[2] == box[3] == 100 for box in boxes.tolist()) == 4


@pytest.mark.parametrize("lacking", [{"patches": 0}, {"count": 0}, {"scales": (4,)}, {"count": 1, "patches": 1}])
def test_two_pools_are_drawn_and_told_apart_whatever_one_lacks(lacking, make_pool, tmp_path):
    one, two = make_pool("one"), make_pool("two", sigma=2.5, **lacking)
    for pools in ([one, two], [two, one], [two]):
        write_pool_picture(tmp_path / "x.png", pools)
        with Image.open(tmp_path / "x.png") as picture:
            assert picture.height > 250
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
    assert "noise patches: in A alone" in text
    assert "no kernels" in format_pool(make_pool("grain", count=0))


def test_a_comparison_is_second_minus_first(make_pool):
    one, two = make_pool("one"), make_pool("two", sigma=2.5, level=6)
    found = compare_pools(one, two)
    assert found["noise"]["level_ratio"] == pytest.approx([2, 2, 2], rel=0.05)
    assert found["kernels"]["x2"]["spread"] == pytest.approx([1.0, 0.0], abs=0.05)
    assert min(found["kernels"]["x2"]["spectrum"]) == -found["kernels"]["x2"]["largest_spectrum_difference"]
    same = compare_pools(one, one)
    assert same["kernels"]["x4"]["largest_spectrum_difference"] == 0
    assert not np.any(same["noise"]["autocorrelation"])
    lines = {line[2:40].strip(): line.split() for line in format_comparison(one, two).splitlines()}
    assert lines["level R"][-3:] == [f"{one.noise.level[0]:.3f}", f"{two.noise.level[0]:.3f}",
                                     f"{two.noise.level[0] - one.noise.level[0]:+.3f}"]  # fmt: skip
