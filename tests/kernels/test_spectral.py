from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage import data

from config_files import yaml_values
from realsr.imaging import apply_kernel, read_uint8, to_float, to_uint8
from realsr.imaging.kernel_shapes import kernel_psnr, load_kernel
from realsr.kernels.estimator import NoKernelError
from realsr.kernels.gaussian import draw_div2krk, gaussian_kernel
from realsr.kernels.kernelgan import DETAIL_FIT
from realsr.kernels.spectral import Spectral, fit_photo, noise_power, power_spectrum

VALUES = yaml_values("kernels/spectral")
SPECTRAL = Spectral(
    **{key: value for key, value in VALUES.items() if key not in ("name", "gates")}, workers=0
)
WITHOUT_BORDER = replace(SPECTRAL, border=10)


def covariance(kernel: np.ndarray) -> np.ndarray:
    positions = np.moveaxis(np.mgrid[: len(kernel), : len(kernel)], 0, -1).reshape(-1, 2)
    centred = positions - kernel.ravel() @ positions
    return centred.T @ (kernel.ravel()[:, None] * centred)


def power_law_photo(side: int, exponent: float, seed: int) -> torch.Tensor:
    """Noise whose power falls as a power of the frequency, (3, side, side) in 0..1: what the model takes photos for."""
    radius = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    radius[0, 0] = np.inf
    white = np.fft.rfft2(np.random.default_rng(seed).normal(size=(side, side)))
    image = np.fft.irfft2(white * radius ** (-exponent / 2), (side, side))
    return torch.from_numpy(0.5 + 0.12 * image / image.std()).float().expand(3, -1, -1)


def photograph(hr: torch.Tensor, kernel: np.ndarray, noise: float, seed: int = 0) -> np.ndarray:
    lr = apply_kernel(hr, kernel, 2)
    rng = np.random.default_rng(seed)
    return to_uint8(
        (lr + torch.from_numpy(rng.normal(0, noise / 255, lr.shape)).float()).clamp(0, 1)
    )


@pytest.mark.parametrize("noise", [0.0, 2.0])
@pytest.mark.parametrize("exponent", [2.5, 2.9])
def test_finds_the_covariance_under_the_model(noise, exponent):
    true = np.array([[2.9, 0.8], [0.8, 1.2]])
    kernel = gaussian_kernel(true, 17, 8.5)
    photo = photograph(power_law_photo(1024, exponent, 1), kernel, noise)
    found = fit_photo(photo, SPECTRAL)
    np.testing.assert_allclose(
        covariance(found.kernel(2)), true, atol=0.6
    )  # 2.7 is assumed of the exponent
    assert found.residual < 0.1
    assert kernel_psnr(kernel, found.kernel(2)) > 36


@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_finds_the_kernels_of_photographs(noise):
    scores = []
    for index, name in enumerate(("coffee", "grass", "coins", "camera")):
        image = np.atleast_3d(getattr(data, name)())
        hr = to_float(np.broadcast_to(image, (*image.shape[:2], 3)))
        true = draw_div2krk(np.random.default_rng(index), False, (0.6, 5.0), 0.25)
        found = fit_photo(photograph(hr, true, noise), WITHOUT_BORDER)
        scores.append(kernel_psnr(true, found.kernel(2)))
        assert found.kernel(2).shape == (17, 17)
        assert found.kernel(2).sum() == pytest.approx(1)
        positions = np.arange(17)
        np.testing.assert_allclose(
            [found.kernel(2).sum(1) @ positions, found.kernel(2).sum(0) @ positions], 8.5, atol=0.01
        )
    assert np.mean(scores) > 36, scores
    assert min(scores) > 31, scores


def test_the_x4_kernel_is_the_same_blur_at_twice_the_size():
    """What the x4 kernel makes of a sharp photo looks to the estimator as it found it."""
    found = fit_photo(photograph(power_law_photo(1024, 2.7, 1), np.ones((3, 3)) / 9, 1.0), SPECTRAL)
    np.testing.assert_allclose(
        covariance(found.kernel(4)), 4 * covariance(found.kernel(2)), rtol=0.02, atol=0.02
    )
    positions = np.arange(33)
    centres = [found.kernel(4).sum(axis) @ positions for axis in (0, 1)]
    np.testing.assert_allclose(centres, 17.5, atol=0.01)
    lr = to_uint8(apply_kernel(power_law_photo(2048, 2.7, 2), found.kernel(4), 4).clamp(0, 1))
    again = fit_photo(lr, SPECTRAL)
    np.testing.assert_allclose(covariance(again.kernel(2)), covariance(found.kernel(2)), atol=0.35)


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_the_kernel_for_another_scale_is_the_same_gaussian(scale):
    true = np.array([[2.9, 0.8], [0.8, 1.2]])
    centre = 4 * scale + (scale - 1) / 2
    expected = gaussian_kernel(true * scale**2 / 4, 8 * scale + 1, centre)
    found = SPECTRAL.derive(gaussian_kernel(true, 17, 8.5), scale)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_turned_photo_has_the_turned_kernel():
    hr = to_float(data.coffee())
    photo = photograph(hr, gaussian_kernel(np.array([[3.0, 1.0], [1.0, 1.0]]), 17, 8.5), 1.0)
    upright = fit_photo(photo, SPECTRAL).kernel(2)
    turned = fit_photo(np.ascontiguousarray(photo.transpose(1, 0, 2)), SPECTRAL).kernel(2)
    np.testing.assert_allclose(covariance(turned), covariance(upright).T[::-1, ::-1], atol=0.02)


def test_power_spectrum_written_plainly():
    gray = np.random.default_rng(0).random((70, 45)).astype(np.float32)
    profile = np.hanning(34)[1:-1]
    taper = np.outer(profile, profile)
    powers = []
    for top in range(0, 39, 8):
        for left in range(0, 14, 8):
            window = gray[top : top + 32, left : left + 32]
            window = (window - (window * taper).sum() / taper.sum()) * taper
            powers.append(np.abs(np.fft.rfft2(window)) ** 2 / (taper**2).sum())
    np.testing.assert_allclose(power_spectrum(gray), np.mean(powers, axis=0), rtol=1e-3, atol=1e-6)


def test_white_noise_has_its_variance_at_all_frequencies():
    gray = np.random.default_rng(0).normal(100, 3, (400, 400)).astype(np.float32)
    power = power_spectrum(gray)
    assert power[4:28, 4:12].mean() == pytest.approx(9, rel=0.03)
    assert noise_power(gray) == pytest.approx(9, rel=0.35)
    ramp = np.add.outer(np.arange(400.0), np.arange(400.0))
    assert noise_power(gray + ramp) == pytest.approx(
        noise_power(gray), rel=1e-3
    )  # shading is no noise


def test_signal_is_what_is_no_noise():
    noise = (
        np.random.default_rng(0).normal(128, 4, (300, 300, 3)).round().clip(0, 255).astype(np.uint8)
    )
    assert fit_photo(noise, SPECTRAL).signal < 0.2
    assert (
        fit_photo(photograph(to_float(data.coffee()), np.ones((3, 3)) / 9, 0), SPECTRAL).signal
        > 0.8
    )


def test_photos_without_anything_to_see():
    with pytest.raises(ValueError, match=r"300x83 pixels are too few .* at least 84x84"):
        fit_photo(np.zeros((83, 300, 3), np.uint8), WITHOUT_BORDER)
    edge = np.zeros((100, 100, 3), np.uint8)
    edge[:, 50:] = 255
    for photo in (np.full((100, 100, 3), 7, np.uint8), edge):
        with pytest.raises(NoKernelError, match="flat or has no detail in some direction"):
            fit_photo(photo, SPECTRAL)


def test_large_photos_are_sampled():
    """However many pixels, the windows are about as many; the spectrum stays the same."""
    gray = np.tile(np.random.default_rng(0).random((128, 128)).astype(np.float32), (16, 16))
    np.testing.assert_allclose(
        power_spectrum(gray)[3:, 3:], power_spectrum(gray[:512, :512])[3:, 3:], rtol=0.5
    )


def test_finds_the_golden_kernels(shared):
    folder = shared("golden/known_kernels")
    for index in range(3):
        found = fit_photo(read_uint8(folder / f"im{index}.png"), WITHOUT_BORDER)
        assert kernel_psnr(load_kernel(folder / f"im{index}_true_x2.mat"), found.kernel(2)) > 40


def test_kernelgan_tells_detail_from_noise_by_the_same_prior():
    assert DETAIL_FIT == SPECTRAL
