import numpy as np
import pytest

from realsr.imaging.kernel_shapes import kernel_psnr, postprocess
from realsr.kernels.combination import agreement, average, choose_kernel, find_medoid
from realsr.kernels.kernelgan import Estimates
from realsr.simulation.camera import anisotropic_kernel


def gaussian(sigma: float, size: int = 13, angle: float = 0) -> np.ndarray:
    return anisotropic_kernel(size, (sigma, sigma / 2), angle, scale=2)


def estimates(*raws: np.ndarray) -> Estimates:
    losses = {name: np.arange(float(len(raws))) for name in ("generator", "discriminator", "bicubic")}
    return Estimates(np.stack(raws), losses)


def test_the_medoid_is_the_one_amid_the_others():
    kernels = [gaussian(1.2), gaussian(2.6), gaussian(1.6), gaussian(1.4), gaussian(2, angle=90)]
    kernel, index = find_medoid(kernels)
    assert index == 2
    assert kernel is kernels[2]
    assert find_medoid(kernels[:1])[1] == 0


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
    assert agreement([a]) is None
    assert agreement([a, a]) == 100
    both = [kernel_psnr(x, y) for x, y in ((a, b), (b, a), (a, c), (c, a), (b, c), (c, b))]
    assert agreement([a, b, c]) == pytest.approx(np.mean(both))
    assert agreement([a, b]) > agreement([a, c])


def test_seeds_that_ran_away_are_left_out():
    good, broken = gaussian(1.5), np.full((13, 13), np.nan)
    assert choose_kernel(estimates(broken, np.zeros((13, 13))), "medoid") is None
    for how, seed in (("medoid", 1), ("mean", None)):
        outcome = choose_kernel(estimates(broken, good), how)
        assert outcome.chosen == seed
        np.testing.assert_allclose(outcome.kernel, postprocess(good), atol=1e-12)
        assert outcome.health.generator == 1
        assert outcome.health.agreement is None


def test_health_is_that_of_the_seed_that_is_taken():
    raws = [gaussian(1.2), 0.9 * gaussian(1.6), gaussian(2.4)]
    medoid, mean = (choose_kernel(estimates(*raws), how) for how in ("medoid", "mean"))
    assert medoid.chosen == 1
    assert medoid.health.sum == pytest.approx(0.9)
    assert mean.health.sum == pytest.approx(2.9 / 3)
    assert medoid.health.agreement == mean.health.agreement


def test_estimates_that_ran_away_are_left_out_of_the_mean():
    sound, runaway = gaussian(1.4), gaussian(2.4, angle=90) * 0.003
    together = choose_kernel(estimates(sound, runaway), "mean")
    np.testing.assert_array_equal(together.kernel, choose_kernel(estimates(sound), "mean").kernel)
    assert together.health.sum == pytest.approx(1)
    assert together.health.agreement is None
    alone = choose_kernel(estimates(runaway), "mean")
    assert alone.health.sum == pytest.approx(0.003)
