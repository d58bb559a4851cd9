import numpy as np
import pytest
from scipy import ndimage

from realsr.imaging.kernel_shapes import kernel_psnr, postprocess
from realsr.kernels.estimator import KernelEstimate, NoKernelError
from realsr.kernels.kernelgan import agreement, average, choose_kernel, draw_crops, interest_map
from realsr.simulation.camera_model import anisotropic_kernel


def gaussian(sigma: float, size: int = 13, angle: float = 0) -> np.ndarray:
    return anisotropic_kernel(size, (sigma, sigma / 2), angle, scale=2)


def half_flat(height: int = 200, width: int = 301) -> np.ndarray:
    """Left half flat, right half texture."""
    image = np.full((height, width), 0.5)
    image[:, width // 2 :] = np.random.default_rng(0).random((height, width - width // 2))
    return image


def choose(*raws: np.ndarray, how: str) -> KernelEstimate:
    losses = {
        name: np.arange(float(len(raws))) for name in ("generator", "discriminator", "bicubic")
    }
    estimate = choose_kernel(np.stack(raws), losses, how)
    assert isinstance(estimate, KernelEstimate)
    return estimate


def test_the_medoid_is_the_one_amid_the_others():
    kernels = [gaussian(1.2), gaussian(2.6), gaussian(1.6), gaussian(1.4), gaussian(2, angle=90)]
    estimate = choose(*kernels, how="medoid")
    assert estimate.facts["chosen"] == 2
    np.testing.assert_array_equal(estimate.kernels[2], [postprocess(kernels[2])])
    assert choose(kernels[0], how="medoid").facts["chosen"] == 0


def test_the_mean_stays_aligned_whatever_the_sizes():
    kernels = [gaussian(1.2, 13), gaussian(1.8, 19, 40), gaussian(1.5, 17, 90)]
    mean = average(kernels)
    assert mean.shape == (19, 19)
    assert mean.sum() == pytest.approx(1)
    centre = [np.arange(19) @ mean.sum(axis) for axis in (1, 0)]
    np.testing.assert_allclose(centre, 9.5, atol=0.01)
    expected = sum(np.pad(kernel, (19 - len(kernel)) // 2) for kernel in kernels) / 3
    np.testing.assert_allclose(mean, expected, atol=1e-12)


def test_agreement_is_what_pairs_have():
    a, b, c = gaussian(1.5), gaussian(1.6), gaussian(2)
    assert agreement([a, a]) == 100
    both = [kernel_psnr(x, y) for x, y in ((a, b), (b, a), (a, c), (c, a), (b, c), (c, b))]
    assert agreement([a, b, c]) == pytest.approx(np.mean(both))
    assert agreement([a, b]) > agreement([a, c])


def test_seeds_that_ran_away_are_left_out():
    good, broken = gaussian(1.5), np.full((13, 13), np.nan)
    error = choose_kernel(np.stack([broken, np.zeros((13, 13))]), {}, "medoid")
    assert isinstance(error, NoKernelError)
    assert "no kernel has a positive sum" in str(error)
    for how, seed in (("medoid", 1), ("mean", None)):
        estimate = choose(broken, good, how=how)
        assert estimate.facts["chosen"] == seed
        np.testing.assert_allclose(estimate.kernels[2], [postprocess(good)], atol=1e-12)
        assert estimate.numbers["generator"] == 1
        assert "agreement" not in estimate.numbers, "a single seed cannot disagree"


def test_health_is_that_of_the_seed_that_is_taken():
    raws = [gaussian(1.2), 0.9 * gaussian(1.6), gaussian(2.4)]
    medoid, mean = (choose(*raws, how=how) for how in ("medoid", "mean"))
    assert medoid.facts["chosen"] == 1
    assert medoid.numbers["sum"] == pytest.approx(0.9)
    assert mean.numbers["sum"] == pytest.approx(2.9 / 3)
    assert medoid.numbers["agreement"] == mean.numbers["agreement"]


def test_estimates_that_ran_away_are_left_out_of_the_mean():
    sound, runaway = gaussian(1.4), gaussian(2.4, angle=90) * 0.003
    together = choose(sound, runaway, how="mean")
    np.testing.assert_array_equal(together.kernels[2], choose(sound, how="mean").kernels[2])
    assert together.numbers["sum"] == pytest.approx(1)
    assert "agreement" not in together.numbers
    alone = choose(runaway, how="mean")
    assert alone.numbers["sum"] == pytest.approx(0.003)


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
