import numpy as np
import pytest
import torch
from scipy import ndimage

from realsr.kernels.kernelgan import draw_crops, interest_map
from realsr.kernels.kernelgan_training import cut_crops


def half_flat(height: int = 200, width: int = 301) -> np.ndarray:
    """Left half flat, right half texture."""
    image = np.full((height, width), 0.5)
    image[:, width // 2 :] = np.random.default_rng(0).random((height, width - width // 2))
    return image


@pytest.mark.parametrize("border", [0, 5, 10])
@pytest.mark.parametrize(
    ("shape", "at"), [((200, 302), 1), ((200, 302), 2), ((86, 87), 1), ((91, 400), 1)]
)
def test_corners_are_even_and_inside_the_border(shape, at, border):
    interest = np.random.default_rng(0).random((shape[0] // at, shape[1] // at))
    corners = draw_crops(interest, shape, 64, 2000, border, np.random.default_rng(1))
    assert corners.shape == (2000, 2)
    assert (corners % 2 == 0).all()
    assert (corners >= border).all()
    assert (corners + 64 <= np.array(shape) - border).all()
    # Nothing that is allowed is left out at either end.
    assert (corners.min(0) <= border + 1).all()
    assert (corners.max(0) >= np.array(shape) - border - 64 - 1).all()


def test_crops_avoid_what_is_flat():
    interest = interest_map(half_flat(), 26)
    assert interest.min() == 0
    corners = draw_crops(interest, (200, 301), 26, 1000, 0, np.random.default_rng(0))
    assert (corners[:, 1] + 26 > 150).all()  # each crop sees texture
    assert np.ptp(corners[:, 0]) > 150  # and all of it is seen


def test_crops_are_centred_where_the_interest_is():
    interest = np.zeros((100, 150))
    interest[40, 90] = 1
    at_full, at_half = ((100, 150), [40 - 12, 90 - 12]), ((200, 300), [80 - 12, 180 - 12])
    for shape, expected in (at_full, at_half):
        corners = draw_crops(interest, shape, 24, 50, 0, np.random.default_rng(0))
        assert (corners == expected).all()


def test_probability_is_proportional_to_the_map():
    interest = np.zeros((100, 100))
    interest[30, 30], interest[60, 70] = 1, 3
    corners = draw_crops(interest, (100, 100), 20, 4000, 0, np.random.default_rng(0))
    assert (corners == [50, 60]).all(1).mean() == pytest.approx(0.75, abs=0.03)
    assert (corners == [20, 20]).all(1).mean() == pytest.approx(0.25, abs=0.03)


def test_drawing_depends_on_the_generator_alone():
    interest = interest_map(half_flat(), 26)
    draws = [
        draw_crops(interest, (200, 301), 26, 100, 10, np.random.default_rng(seed))
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()


@pytest.mark.parametrize("value", [0.0, 0.5, 255.0])
def test_a_flat_photo_works(value):
    interest = interest_map(np.full((90, 120), value), 32)
    corners = draw_crops(interest, (90, 120), 64, 500, 0, np.random.default_rng(0))
    assert np.unique(corners, axis=0).shape[0] > 50


def test_interest_map_written_plainly():
    gray = ndimage.gaussian_filter(np.random.default_rng(0).random((70, 90)), 1).astype(np.float32)
    dy, dx = np.zeros_like(gray), np.zeros_like(gray)
    dy[1:-1], dy[0], dy[-1] = (gray[2:] - gray[:-2]) / 2, gray[1] - gray[0], gray[-1] - gray[-2]
    dx[:, 1:-1] = (gray[:, 2:] - gray[:, :-2]) / 2
    dx[:, 0], dx[:, -1] = gray[:, 1] - gray[:, 0], gray[:, -1] - gray[:, -2]
    total = np.zeros((70, 90))
    for gradient in (np.abs(dx), np.abs(dy), np.sqrt(dx**2 + dy**2)):
        limit = np.percentile(gradient, 97)
        clipped = np.minimum(np.where(gradient > limit, gradient, 0), limit * (1 + 1e-6))
        total += clipped / clipped.sum()
    padded = np.pad(total, ((6, 5), (6, 5)))  # a box of 12 has its centre at index 6
    expected = np.array(
        [[padded[y : y + 12, x : x + 12].mean() for x in range(90)] for y in range(70)]
    )
    np.testing.assert_allclose(interest_map(gray, 24), expected, atol=1e-9)


def test_interest_does_not_depend_on_the_range():
    # Each gradient is normalised, so that contrast does not count.
    interest = interest_map(half_flat(), 26)
    np.testing.assert_allclose(interest_map(half_flat() * 256, 26), interest, atol=1e-12)
    assert interest.shape == (200, 301)
    assert interest.dtype == np.float64


def test_crops_are_cut_out_of_photos_of_any_size():
    rng = np.random.default_rng(0)
    for shape in ((3, 40, 50), (3, 31, 44)):
        pixels = torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8))
        corners = torch.from_numpy(rng.integers(0, 20, (7, 2)))
        crops = cut_crops(pixels, corners, 10)
        assert crops.shape == (7, 3, 10, 10)
        assert crops.dtype == torch.uint8
        for crop, (top, left) in zip(crops, corners, strict=True):
            assert torch.equal(crop, pixels[:, top : top + 10, left : left + 10])
