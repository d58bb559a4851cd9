import numpy as np
import pytest
import torch
from scipy import ndimage

from realsr.core.errors import UserError
from realsr.imaging import resize, write_uint8
from realsr.imaging.kernel_shapes import save_kernel
from realsr.kernels.gaussian import gaussian_kernel
from realsr.pools.pool_statistics import (
    FREQUENCIES,
    bicubic_kernel,
    kernel_moments,
    kernel_spectrum,
    measure_kernels,
    measure_noise,
    measure_pool,
)
from realsr.simulation.camera_model import anisotropic_kernel


def patches(noise, count=4):
    """Noise patches of a process: (h, w, 3) of standard deviation 1 -> 8 bit, about gray, eight times as strong."""
    return [
        (128 + 8 * noise(np.random.default_rng(i))).round().clip(0, 255).astype(np.uint8)
        for i in range(count)
    ]


@pytest.mark.parametrize(("angle", "turned"), [(0, 0), (30, 150), (90, 90), (135, 45)])
def test_moments_of_a_known_kernel(angle, turned):
    kernel = anisotropic_kernel(31, (3.0, 1.5), angle, 4)  # its angle runs down the rows
    moments = kernel_moments(np.roll(kernel, (1, -2), (0, 1)) * 2, 4)
    assert moments.sum == pytest.approx(2)
    assert moments.offset == pytest.approx((1, -2), abs=0.01)
    assert moments.spread == pytest.approx((3.0, 1.5), rel=0.01)
    assert moments.angle == pytest.approx(turned, abs=0.5) or moments.angle == pytest.approx(
        turned + 180, abs=0.5
    )


def test_the_spectrum_of_a_gaussian_is_one():
    sigma = 1.7
    kernel = gaussian_kernel(np.eye(2) * sigma**2, 31, 15.3)
    expected = np.exp(-2 * (np.pi * sigma * FREQUENCIES) ** 2)
    np.testing.assert_allclose(
        kernel_spectrum(kernel * 5), expected, atol=8e-3
    )  # over rings some pixels wide
    np.testing.assert_allclose(kernel_spectrum(np.eye(1)), 1)


def test_the_mean_is_that_of_the_spectra_and_sizes_may_differ():
    kernels = {
        "a": gaussian_kernel(np.eye(2), 11, 5.5),
        "b": gaussian_kernel(np.eye(2) * 9, 91, 45.5),
    }
    statistics = measure_kernels(kernels, 2)
    np.testing.assert_allclose(statistics.spectrum, sum(map(kernel_spectrum, kernels.values())) / 2)
    assert list(statistics.moments) == ["a", "b"]


@pytest.mark.parametrize("scale", [2, 4])
def test_the_bicubic_kernel_does_what_bicubic_does(scale):
    image = torch.rand(64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    middle = 32 // scale
    small = resize(image, factor=1 / scale)[middle, middle]
    assert (image.numpy() * bicubic_kernel(scale)).sum() == pytest.approx(small.item())
    assert bicubic_kernel(scale).sum() == pytest.approx(1)


def test_white_noise_is_white():
    noise = measure_noise(patches(lambda rng: rng.standard_normal((96, 80, 3))))
    assert noise.levels.shape == (4, 3)
    assert noise.level == pytest.approx([8, 8, 8], rel=0.03)
    np.testing.assert_allclose(noise.colour_correlation, np.eye(3), atol=0.03)
    np.testing.assert_allclose(noise.autocorrelation[:, 0], 1)
    np.testing.assert_allclose(noise.autocorrelation[:, 1:], 0, atol=0.03)
    np.testing.assert_allclose(noise.spectrum[2:], 1, atol=0.25)


def test_levels_and_correlation_of_colours_are_found():
    correlation = np.array([[1, 0.6, 0.2], [0.6, 1, 0.5], [0.2, 0.5, 1]])
    mixing = np.linalg.cholesky(correlation) * np.array([[2.0], [1.0], [0.5]])
    noise = measure_noise(patches(lambda rng: rng.standard_normal((128, 128, 3)) @ mixing.T))
    assert noise.level == pytest.approx([16, 8, 4], rel=0.03)
    np.testing.assert_allclose(noise.colour_correlation, correlation, atol=0.03)


def test_smoothing_along_one_axis_shows_along_it_alone():
    # A mean of n neighbours has the autocorrelation 1 - lag / n.
    def process(rng):
        return 2 * ndimage.uniform_filter1d(rng.standard_normal((160, 160, 3)), 4, axis=1)

    noise = measure_noise(patches(process, 6))
    np.testing.assert_allclose(noise.autocorrelation[1], (1 - np.arange(9) / 4).clip(0), atol=0.05)
    np.testing.assert_allclose(noise.autocorrelation[0, 1:], 0, atol=0.05)
    assert noise.spectrum[1] > 1.2 > 0.8 > noise.spectrum[-1]


def test_patches_of_several_sizes_small_ones_and_flat_ones_are_measured():
    flat = np.full((16, 16, 3), 40, np.uint8)
    noise = measure_noise([flat, flat[:5, :3]])
    assert np.isfinite(noise.spectrum).all()
    assert noise.level.tolist() == [0, 0, 0]
    grainy = patches(lambda rng: rng.standard_normal((20, 30, 3)), 1)
    assert np.isfinite(measure_noise([*grainy, flat]).autocorrelation).all()


def test_a_pool_may_lack_kernels_or_noise_but_not_both(tmp_path):
    (tmp_path / "a/kernels/deep").mkdir(parents=True)
    save_kernel(tmp_path / "a/kernels/deep/p_kernel_x4.mat", gaussian_kernel(np.eye(2), 9, 5.5))
    pool = measure_pool(tmp_path / "a")
    assert list(pool.kernels) == [4]
    assert list(pool.kernels[4].moments) == ["deep/p"]
    assert pool.noise is None
    (tmp_path / "b/noise").mkdir(parents=True)
    write_uint8(
        tmp_path / "b/noise/p_000.png", patches(lambda rng: rng.standard_normal((16, 16, 3)))[0]
    )
    pool = measure_pool(tmp_path / "b")
    assert pool.kernels == {}
    assert pool.noise is not None
    with pytest.raises(UserError, match=r"neither kernels .* nor noise patches"):
        measure_pool(tmp_path)
