"""Kernels of a camera: the joint estimate, its spread, and sharpening."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage import data

from config_files import yaml_values
from realsr.core.errors import UserError
from realsr.imaging import apply_kernel, to_float, to_uint8
from realsr.imaging.kernel_shapes import aligned_centre, kernel_psnr, moments, normalise
from realsr.kernels.camera import (
    MARGIN,
    Camera,
    choose_shape,
    join_components,
    remove_sharpening,
    robust_mean,
    shaped_kernel,
    sharp_kernel,
    split_components,
    turn,
)
from realsr.kernels.estimator import KernelEstimate, SourcePhoto
from realsr.kernels.gaussian import gaussian_kernel
from realsr.kernels.spectral import PIXEL, SHAPES, matrix_exponential, measure_spectrum
from realsr.simulation.camera_model import anisotropic_kernel

PHOTOS = ("astronaut", "coffee", "chelsea", "rocket")
NO_SHARPENING = {"sharpening": (0.0, 0.0), "draws": 1}
COVARIANCE = np.array([[2.2, 0.6], [0.6, 1.4]])


def make_camera(**changes: Any) -> Camera:
    values = yaml_values("kernels/camera")
    arguments = {key: value for key, value in values.items() if key not in ("name", "gates")}
    arguments |= {"sharpening": tuple(values["sharpening"]), "workers": 0, "border": 10} | changes
    return Camera(**arguments)


def take_photos(folder: Path, kernel: np.ndarray, turned: bool = False) -> list[SourcePhoto]:
    photos = []
    for name in PHOTOS:
        scene = getattr(data, name)()
        scene = scene[: scene.shape[0] // 2 * 2, : scene.shape[1] // 2 * 2]
        photo = to_uint8(apply_kernel(to_float(np.ascontiguousarray(scene)), kernel, 2))
        photo = np.ascontiguousarray(np.rot90(photo)) if turned else photo
        Image.fromarray(photo).save(folder / f"{name}.png")
        photos.append(SourcePhoto(name, folder / f"{name}.png", "refuse"))
    return photos


def estimate(
    camera: Camera, photos: list[SourcePhoto], seed: int = 0
) -> Mapping[str, KernelEstimate]:
    observations = {}
    for batch in camera.observe(photos, seed, lambda _: None):
        observations |= batch
    return camera.estimate(observations, seed)  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize("amount", [0.0, 0.7])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_a_sharp_kernel_is_a_blur_and_then_an_unsharp_mask_of_lr(amount: float, scale: int) -> None:
    rng = np.random.default_rng(0)
    covariance = scale**2 * np.array([[0.4, 0.1], [0.1, 0.3]])
    hr = to_float(ndimage.gaussian_filter(rng.integers(0, 256, (96, 96, 3)), (1, 1, 0)))
    hr = hr * 0.5 + 0.25
    lr = apply_kernel(hr, sharp_kernel(covariance, 0, 1.0, scale), scale).numpy()
    expected = lr + amount * (lr - ndimage.gaussian_filter(lr, (0, 1, 1)))
    result = apply_kernel(hr, sharp_kernel(covariance, amount, 1.0, scale), scale).numpy()
    inner = (slice(None), slice(6, -6), slice(6, -6))
    assert np.abs(result - expected)[inner].max() < 2e-3
    assert not amount or np.abs(expected - lr)[inner].max() > 0.02


@pytest.mark.parametrize("shape", ["disc", "motion"])
def test_derive_recovers_the_shape(shape: str) -> None:
    covariance = np.array([[2.9, 0.5], [0.5, 1.5]])
    kernel = make_camera().derive(shaped_kernel(shape, covariance, 0.63, 1.0, 2), 3)
    expected = shaped_kernel(shape, covariance, 0.63, 1.0, 3)
    np.testing.assert_allclose(kernel, expected, atol=1e-5 * expected.max())


@pytest.mark.parametrize("scale", [1, 3, 4, 8])
def test_derive_recovers_the_kernel_for_another_scale(scale: int) -> None:
    covariance = np.array([[1.9, 0.5], [0.5, 1.1]])
    kernel = make_camera().derive(sharp_kernel(covariance, 0.63, 1.0, 2), scale)
    expected = sharp_kernel((scale / 2) ** 2 * covariance, 0.63, 1.0, scale)
    np.testing.assert_allclose(kernel, expected, atol=1e-6 * expected.max())


def test_sharpening_is_removed_from_the_spectrum() -> None:
    scene = data.astronaut().astype(np.float32)
    sharp = scene + 0.6 * (scene - ndimage.gaussian_filter(scene, (1, 1, 0)))
    low, high = (measure_spectrum(image, 10) for image in (scene, sharp))
    restored = remove_sharpening(high, 0.6, 1.0)
    assert np.abs(restored.log_power - low.log_power).max() < 0.1
    assert np.abs(high.log_power - low.log_power).max() > 0.7


def test_the_mean_of_the_camera_is_better_than_the_estimates_of_its_photos(tmp_path: Path) -> None:
    true = anisotropic_kernel(17, (1.6, 1.1), 30, scale=2)
    photos = take_photos(tmp_path, true)
    alone = make_camera(**NO_SHARPENING, spread=1e3, error=1e-3)  # each photo's own estimate
    joint = make_camera(**NO_SHARPENING, spread=1e-3, error=0.3)
    single, mean = (
        [kernel_psnr(true, item.kernels[2][0]) for item in estimate(camera, photos).values()]
        for camera in (alone, joint)
    )
    assert min(mean) > np.mean(single) + 1
    assert min(mean) > 40


def test_the_mean_kernel_of_the_draws_of_one_photo_is_its_estimate(tmp_path: Path) -> None:
    photos = take_photos(tmp_path, anisotropic_kernel(17, (1.6, 1.1), 30, scale=2))[:1]
    (single,), (several,) = (
        estimate(make_camera(sharpening=(0.0, 0.0), draws=draws), photos).values()
        for draws in (1, 8)
    )
    assert kernel_psnr(single.kernels[2][0], np.mean(several.kernels[2], axis=0)) > 50
    assert min(kernel_psnr(single.kernels[2][0], kernel) for kernel in several.kernels[2]) < 45


def test_draws_have_the_spread_of_the_posterior(tmp_path: Path) -> None:
    photos = take_photos(tmp_path, anisotropic_kernel(17, (1.5, 1.5), 0, scale=2))[:1]
    camera = make_camera(sharpening=(0.0, 0.0), draws=200, spread=0.2, error=0.3)
    (item,) = estimate(camera, photos).values()
    sizes = [np.log(np.linalg.det(moments(kernel)[1])) for kernel in item.kernels[2]]
    # det of the covariance: exp of twice the width's component; a value at the mean has weight 5/2
    error = 0.3 / np.sqrt(5 / 2)
    expected = 2 * 0.2 * error / np.hypot(0.2, error)
    assert np.std(sizes) == pytest.approx(expected, rel=0.2)
    again, other = (estimate(camera, photos, seed) for seed in (0, 1))
    first = item.kernels[2][0]
    np.testing.assert_array_equal(first, again[photos[0].name].kernels[2][0])
    assert not np.array_equal(first, other[photos[0].name].kernels[2][0])


def test_draws_have_amounts_across_the_range(tmp_path: Path) -> None:
    photos = take_photos(tmp_path, anisotropic_kernel(17, (1.5, 1.5), 0, scale=2))[:1]
    camera = make_camera(sharpening=(0.0, 1.0), draws=4, spread=1e-6)
    np.testing.assert_allclose(camera.amounts, [0.125, 0.375, 0.625, 0.875])
    (item,) = estimate(camera, photos).values()
    negative = [float(-np.clip(kernel, None, 0).sum()) for kernel in item.kernels[4]]
    assert negative == sorted(negative)
    assert negative[0] < 0.02 < 0.1 < negative[-1]
    for kernels in item.kernels.values():
        np.testing.assert_allclose([kernel.sum() for kernel in kernels], 1, atol=1e-9)


def test_portrait_photos_are_turned_before_they_are_pooled(tmp_path: Path) -> None:
    true = anisotropic_kernel(17, (2.0, 1.0), 20, scale=2)
    (tmp_path / "upright").mkdir()
    camera = make_camera(**NO_SHARPENING, spread=1e-3)
    landscape = [
        photo for photo in take_photos(tmp_path / "upright", true) if photo.name != "astronaut"
    ]
    portrait = [
        photo for photo in take_photos(tmp_path, true, turned=True) if photo.name == "coffee"
    ]
    photos = [photo for photo in landscape if photo.name != "coffee"] + portrait
    item = estimate(camera, photos)["coffee"]
    turned = normalise(np.rot90(true))
    assert kernel_psnr(turned, item.kernels[2][0]) > kernel_psnr(true, item.kernels[2][0]) + 6


def test_groups_of_four_photos_have_a_mean_of_their_own() -> None:
    from realsr.kernels.estimator import Observation

    camera = make_camera(**NO_SHARPENING, spread=1e-6)

    def observe(width: float, focal_length: float) -> Observation:
        fit = np.array([[2 * np.log(width), 0.0, 2 * np.log(width)]])
        group = np.array([focal_length, 300.0, 200.0])
        numbers = {"residual": np.zeros(1), "signal": np.ones(1), "portrait": np.array(False)}
        return Observation({"fits": fit, "group": group, **numbers})

    observations = {f"wide_{i}": observe(1.0, 24.0) for i in range(4)}
    observations |= {f"tele_{i}": observe(2.0, 70.0) for i in range(4)}
    observations |= {"single": observe(1.5, 50.0)}
    widths = {
        name: np.sqrt(moments(item.kernels[2][0])[1][0, 0])
        for name, item in camera.estimate(observations, 0).items()
    }
    assert widths["wide_0"] == pytest.approx(1.0, rel=0.02)
    assert widths["tele_0"] == pytest.approx(2.0, rel=0.02)
    assert widths["single"] == pytest.approx(1.5, rel=0.02)


def test_the_robust_mean_excludes_outliers() -> None:
    spread = np.array([0.04, 0.01, 0.01])
    values = np.zeros((9, 3))
    values[0] = 100
    mean, weights = robust_mean(values, spread, 0.09)
    assert np.abs(mean).max() < 0.01
    assert weights[0] < 0.001 < 2 < weights[1]
    even = np.random.default_rng(0).normal(size=(50, 3)) * 0.001
    np.testing.assert_allclose(robust_mean(even, spread, 0.09)[0], even.mean(0), atol=1e-6)


def test_components_separate_the_width_from_the_shape() -> None:
    entries = np.random.default_rng(0).normal(size=(5, 3))
    np.testing.assert_allclose(join_components(split_components(entries)), entries)
    wider = split_components(entries + np.array([0.3, 0, 0.3])) - split_components(entries)
    np.testing.assert_allclose(wider, np.tile([0.3, 0, 0], (5, 1)), atol=1e-12)


def test_another_shape_than_a_gaussian_needs_the_margin_in_the_sum_of_all_photos() -> None:
    costs = np.array([[3.0, 2.5, 1.0]] * 4)
    assert choose_shape(costs * MARGIN / 8.1) == "gaussian"
    assert choose_shape(costs * MARGIN / 7.9) == "motion"
    assert choose_shape(np.array([])) == "gaussian"


@pytest.mark.parametrize("shape", ["gaussian", "motion"])
def test_the_shape_of_the_blur_is_that_of_the_camera(shape: str, tmp_path: Path) -> None:
    covariance = np.array([[3.3, 2.8], [2.8, 3.3]])  # motion of 8 pixels
    true = shaped_kernel(shape, covariance, 0.0, 1.0, 2)
    camera = make_camera(**NO_SHARPENING, spread=1e-3)
    items = estimate(camera, take_photos(tmp_path, true)).values()
    assert {item.facts["shape"] for item in items} == {shape}
    assert min(kernel_psnr(true, item.kernels[2][0]) for item in items) > 35


def test_a_turn_of_the_logarithm_turns_the_covariance() -> None:
    entries = np.array([0.3, 0.2, -0.4])
    rotation = np.array([[0, -1], [1, 0]])
    expected = rotation @ matrix_exponential(entries) @ rotation.T
    np.testing.assert_allclose(matrix_exponential(turn(entries)), expected)


def test_a_range_of_sharpening_in_the_wrong_order_is_refused() -> None:
    with pytest.raises(UserError, match=r"sharpening=\[1.0,0.0\]: expected \[lowest,highest\]"):
        make_camera(sharpening=(1.0, 0.0))


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
