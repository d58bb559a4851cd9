import numpy as np
import pytest

from realsr.imaging.kernel_shapes import kernel_psnr, postprocess
from realsr.kernels.estimator import KernelEstimate, NoKernelError
from realsr.kernels.kernelgan import agreement, average, choose_kernel
from realsr.simulation.camera_model import anisotropic_kernel


def gaussian(sigma: float, size: int = 13, angle: float = 0) -> np.ndarray:
    return anisotropic_kernel(size, (sigma, sigma / 2), angle, scale=2)


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
