"""Shapes of a blur: their transforms against kernels drawn in space."""

import numpy as np
import pytest

from realsr.imaging.kernel_shapes import aligned_centre, kernel_psnr, moments
from realsr.kernels.camera import shaped_kernel, sharp_kernel
from realsr.kernels.gaussian import gaussian_kernel
from realsr.kernels.spectral import PIXEL, SHAPES

COVARIANCE = np.array([[2.2, 0.6], [0.6, 1.4]])


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_has_its_covariance_at_every_scale(shape: str, scale: int) -> None:
    kernel = shaped_kernel(shape, COVARIANCE, 0.0, 1.0, scale)
    mean, covariance = moments(kernel)
    assert kernel.sum() == pytest.approx(1)
    np.testing.assert_allclose(mean, aligned_centre(8 * scale + 1, scale), atol=0.03 * scale)
    np.testing.assert_allclose(covariance, (scale / 2) ** 2 * COVARIANCE, atol=0.02 * scale**2)


@pytest.mark.parametrize("amount", [0.0, 0.6])
def test_the_transform_of_a_gaussian_is_a_gaussian(amount: float) -> None:
    kernel = shaped_kernel("gaussian", COVARIANCE, amount, 1.0, 2)
    expected = sharp_kernel(COVARIANCE, amount, 1.0, 2)
    np.testing.assert_allclose(kernel, expected, atol=2e-3 * expected.max())


def test_a_disc_is_a_disc_blurred_by_the_square_of_a_pixel() -> None:
    radius, factor = 3.0, 15
    fine = (np.arange(17 * factor) + 0.5) / factor - 9  # pixel 8.5 is the centre
    disc = (np.hypot(fine[:, None], fine[None]) <= radius).astype(float)
    disc = disc.reshape(17, factor, 17, factor).mean((1, 3))  # the mean over a pixel: 1/12
    kernel = shaped_kernel("disc", (radius**2 / 4 + PIXEL) * np.eye(2), 0.0, 1.0, 2)
    assert kernel_psnr(kernel, disc) > 35
    assert kernel[8, 8] == pytest.approx(1 / (np.pi * radius**2), rel=0.05)


def test_motion_is_the_mean_of_gaussians_along_a_line() -> None:
    length, angle, variance = 7.0, 0.4, 0.5
    direction = np.array([np.sin(angle), np.cos(angle)])
    points = 8.5 + np.linspace(-0.5, 0.5, 201)[:, None] * length * direction
    expected = np.mean(
        [gaussian_kernel(variance * np.eye(2), 17, tuple(point)) for point in points], axis=0
    )
    covariance = length**2 / 12 * np.outer(direction, direction) + variance * np.eye(2)
    assert kernel_psnr(expected, shaped_kernel("motion", covariance, 0.0, 1.0, 2)) > 45
