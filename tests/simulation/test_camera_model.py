import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage

from realsr.simulation.camera_model import Camera, anisotropic_kernel

DELTA = np.pad([[1.0]], 2)


def test_noise_at_mid_gray_is_between_the_levels():
    camera = Camera(DELTA, scale=2, noise_levels=(2.0, 3.5))
    scene = torch.full((3, 256, 256), 0.5)
    levels = []
    for seed in range(40):
        noise = camera(scene, np.random.default_rng(seed)) - 0.5
        assert abs(noise.mean()) < 5 * 3.5 / 255 / noise.numel() ** 0.5
        levels.append(float(noise.std()) * 255)
    assert min(levels) > 2 * 0.98
    assert max(levels) < 3.5 * 1.02
    assert min(levels) < 2.2  # drawn per photo, from the whole range
    assert max(levels) > 3.3


@pytest.mark.parametrize("signal", [0.25, 0.5, 0.75])
def test_noise_variance_is_linear_in_the_signal(signal):
    camera = Camera(DELTA, scale=1, noise_levels=(3.0, 3.0))
    photo = camera(torch.full((3, 200, 200), signal), np.random.default_rng(0)).double()
    assert float(photo.std() * 255) == pytest.approx(3 * np.sqrt(0.25 + 1.5 * signal), rel=0.02)
    neighbours = np.corrcoef(photo[:, :, 1:].flatten(), photo[:, :, :-1].flatten())[0, 1]
    channels = np.corrcoef(photo.flatten(1).numpy())[np.triu_indices(3, 1)]
    assert max(abs(neighbours), *np.abs(channels)) < 0.03


def test_without_noise_it_is_blur_and_every_second_pixel():
    kernel = anisotropic_kernel(11, (2.0, 1.0), 30, scale=2)
    scene = torch.from_numpy(np.random.default_rng(0).random((3, 40, 36)))
    photo = Camera(kernel, 2, (0, 0))(scene, np.random.default_rng(0))
    expected = np.stack(
        [ndimage.correlate(channel, kernel, mode="reflect") for channel in scene.numpy()]
    )[:, ::2, ::2]
    np.testing.assert_allclose(photo.numpy(), expected, atol=1e-12)


def test_correlated_noise_has_the_correlation_of_its_filter_and_the_level_of_the_camera():
    camera = Camera(DELTA, 1, (4.0, 4.0), noise_width=0.8)
    noise = camera(torch.full((3, 300, 300), 0.5), np.random.default_rng(0)).double() - 0.5
    assert float(noise.std() * 255) == pytest.approx(4, rel=0.02)
    neighbours = np.corrcoef(noise[:, :, 1:].flatten(), noise[:, :, :-1].flatten())[0, 1]
    # Of white noise filtered by a Gaussian of width w, samples at distance d: exp(-d^2 / 4 w^2).
    assert neighbours == pytest.approx(np.exp(-1 / (4 * 0.8**2)), abs=0.03)


def test_sharpness_adds_the_difference_to_a_blurred_photo():
    scene = torch.from_numpy(np.random.default_rng(0).random((3, 32, 40))) / 2 + 0.25
    photo = Camera(DELTA, 1, (0, 0), sharpness=0.5)(scene, np.random.default_rng(0)).numpy()
    blurred = np.stack(
        [ndimage.gaussian_filter(channel, 1.0, mode="reflect") for channel in scene.numpy()]
    )
    np.testing.assert_allclose(photo, (scene + 0.5 * (scene - blurred)).clip(0, 1), atol=1e-12)


def test_a_compressed_photo_equals_the_decoded_file():
    scene = torch.rand(3, 48, 64, generator=torch.Generator().manual_seed(0)).round()
    photo = Camera(DELTA, 1, (0, 0), jpeg_quality=70)(scene, np.random.default_rng(0))
    rgb = np.ascontiguousarray((scene.numpy() * 255).astype(np.uint8).transpose(1, 2, 0))
    file = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 70])[1]
    expected = cv2.imdecode(file, cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(np.rint(photo.numpy().transpose(1, 2, 0) * 255), expected)


def test_a_photo_stays_in_range_and_depends_on_the_generator_alone():
    scene = torch.rand(
        3, 64, 64, generator=torch.Generator().manual_seed(0)
    ).round()  # black and white
    camera = Camera(DELTA, 2, (20, 20))
    photos = [camera(scene, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert photos[0].shape == (3, 32, 32)
    assert photos[0].min() == 0
    assert photos[0].max() == 1
    assert torch.equal(photos[0], photos[1])
    assert not torch.equal(photos[0], photos[2])


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize(
    ("sigmas", "angle"), [((2.0, 1.0), 30), ((1.5, 1.5), 0), ((1.0, 2.5), 110)]
)
def test_kernels_have_the_moments_asked_for(sigmas, angle, scale):
    kernel = anisotropic_kernel(41, sigmas, angle, scale)
    assert kernel.shape == (41, 41)
    assert kernel.sum() == pytest.approx(1, abs=1e-14)
    centre = ndimage.center_of_mass(kernel)
    np.testing.assert_allclose(centre, 20 + (scale - 1) / 2, atol=1e-6)
    y, x = np.mgrid[:41, :41] - centre[0]
    covariance = [[(kernel * a * b).sum() for b in (x, y)] for a in (x, y)]
    turn = np.radians(angle)
    along, across = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
    expected = sigmas[0] ** 2 * np.outer(along, along) + sigmas[1] ** 2 * np.outer(across, across)
    np.testing.assert_allclose(covariance, expected, rtol=1e-5, atol=1e-5)
