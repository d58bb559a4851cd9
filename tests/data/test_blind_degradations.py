"""The blind degradations of Real-ESRGAN and BSRGAN against plain forms of their papers' definitions."""

from typing import Any

import cv2
import numpy as np
import pytest
from scipy import stats

from config_files import yaml_values
from realsr.core.errors import UserError
from realsr.data.degradations import bsrgan, high_order, operations
from realsr.data.degradations.degradation import build_degradation


def build(name: str, scale: int, **changes: Any) -> Any:
    return build_degradation(yaml_values(f"online_degradation/{name}") | changes, scale)


def test_a_gaussian_is_the_normal_density_of_its_covariance():
    angle, sigmas = 0.7, (2.5, 0.8)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    normal = stats.multivariate_normal([0.5, 0.5], turn @ np.diag(np.square(sigmas)) @ turn.T)
    density = [[normal.pdf([x - 6, y - 6]) for x in range(13)] for y in range(13)]
    kernel = np.exp(-operations.quadratic_form(13, sigmas, angle, shift=0.5) / 2)
    np.testing.assert_allclose(kernel / kernel.max(), density / np.max(density), atol=0.01)
    np.testing.assert_allclose(kernel / kernel.sum(), density / np.sum(density), rtol=1e-9)


def test_a_sinc_kernel_keeps_low_frequencies_and_removes_high_ones():
    cutoff = 1.5
    response = np.abs(np.fft.fft2(operations.sinc_kernel(201, cutoff)))
    frequency = 2 * np.pi * np.hypot(*np.meshgrid(*[np.fft.fftfreq(201)] * 2))
    assert abs(response[frequency < 0.8 * cutoff] - 1).max() < 0.1
    assert response[frequency > 1.2 * cutoff].max() < 0.1


@pytest.mark.parametrize("gray", [False, True])
def test_noise_has_its_level_and_its_colour(gray: bool):
    image = np.full((200, 200, 3), 0.5, np.float32)
    image[:, :100] = 0.25  # two levels: counts of 2 at full brightness
    rng = np.random.default_rng(0)
    noise = operations.add_gaussian_noise(image, 0.05, gray, rng) - image
    assert noise.std() == pytest.approx(0.05, rel=0.02)
    assert np.ptp(noise, axis=2).max() < 1e-6 or not gray
    poisson = operations.add_poisson_noise(image, 0.1, gray, rng) - image
    assert poisson[:, 100:].std() == pytest.approx(0.1 * np.sqrt(0.5 / 2), rel=0.03)
    assert poisson[:, :100].std() == pytest.approx(0.1 * np.sqrt(0.25 / 2), rel=0.03)
    correlation = np.corrcoef(poisson[..., 0].ravel(), poisson[..., 1].ravel())[0, 1]
    assert correlation == pytest.approx(1 if gray else 0, abs=0.03)


def test_stages_draw_what_the_paper_publishes():
    degradation = build("high_order", 4)
    first, second = degradation._stages
    rng = np.random.default_rng(1)
    factors = np.array([high_order._draw_factor(first, rng) for _ in range(4000)])
    assert np.mean(factors > 1) == pytest.approx(0.2, abs=0.02)
    assert np.mean(factors == 1) == pytest.approx(0.1, abs=0.02)
    assert factors.min() == pytest.approx(0.15, abs=0.01)
    assert factors.max() == pytest.approx(1.5, abs=0.01)
    kernels = [degradation._draw_kernel(second, rng) for _ in range(2000)]
    sizes = np.bincount([len(kernel) for kernel in kernels], minlength=22)[7::2] / 2000
    np.testing.assert_allclose(sizes, 1 / 8, atol=0.03)
    np.testing.assert_allclose([kernel.sum() for kernel in kernels], 1)
    ringing = np.mean([kernel.min() < -1e-12 for kernel in kernels])
    assert ringing == pytest.approx(0.1, abs=0.02), "the sinc filters alone are negative somewhere"


def test_without_blur_and_noise_lr_is_a_resized_crop():
    values = yaml_values("online_degradation/high_order")
    still = {"blur": 0, "resize": [0, 0, 1], "noise": [0, 0], "gaussian": 1, "jpeg": [100, 100]}
    stages = [stage | still for stage in values["stages"]]
    degradation = build("high_order", 4, stages=stages, final_sinc=0, margin=8)
    rng = np.random.default_rng(2)
    gray = cv2.GaussianBlur(rng.integers(0, 256, (80, 80), np.uint8), (0, 0), 3)
    image = np.repeat(gray[..., None], 3, 2)  # JPEG would shrink colour
    lr = degradation.prepare(image, 8, 4, np.random.default_rng(3))["lr"]
    assert lr.shape == (16, 16, 3)
    area = cv2.resize(image, (20, 20), interpolation=cv2.INTER_AREA)[2:-2, 2:-2]
    assert np.abs(lr.astype(float) - area).mean() < 2


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", ["high_order", "bsrgan"])
def test_lr_lies_where_hr_does(name: str, scale: int):
    """The centre of a spot stays where it is, within a tenth of an LR pixel on the mean of draws."""
    degradation = build(name, scale)
    side = 32 * scale + 2 * degradation.margin
    place = degradation.margin + np.array([14.25, 18.5]) * scale - 0.5  # pixel centres are whole
    rows, columns = np.mgrid[:side, :side]
    distance = (rows - place[0]) ** 2 + (columns - place[1]) ** 2
    spot = np.repeat(np.exp(-distance / (2 * (2.5 * scale) ** 2))[..., None], 3, 2)
    crop = np.rint(20 + 200 * spot).astype(np.uint8)
    draws = [
        degradation.prepare(crop, degradation.margin, scale, np.random.default_rng(seed))["lr"]
        for seed in range(60)
    ]
    assert {lr.shape for lr in draws} == {(32, 32, 3)}
    mean = np.mean(draws, axis=(0, 3)) - 20
    mean[mean < 15] = 0
    centre = [np.sum(mean * index) / mean.sum() for index in np.mgrid[:32, :32]]
    np.testing.assert_allclose(centre, np.array([14.25, 18.5]) - 0.5, atol=0.1)


def test_the_order_of_bsrgan_is_shuffled_and_shrinks_to_lr_last(monkeypatch: pytest.MonkeyPatch):
    steps: list[str] = []
    for name, label in [("_shrink", "shrink"), ("_add_noise", "noise")]:
        step = getattr(bsrgan, name)
        monkeypatch.setattr(
            bsrgan, name, lambda *args, step=step, label=label: steps.append(label) or step(*args)
        )
    step = operations.blur
    monkeypatch.setattr(operations, "blur", lambda *args: steps.append("blur") or step(*args))
    degradation = build("bsrgan", 2)
    orders = set()
    for seed in range(30):
        steps.clear()
        rng = np.random.default_rng(seed)
        assert degradation.prepare(np.zeros((64, 64, 3), np.uint8), 0, 2, rng)["lr"].shape[0] == 32
        assert steps.count("shrink") == steps.count("noise") == 1
        orders.add(tuple(steps))
    assert len(orders) > 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kernel_size": [8, 21]}, r"kernel_size=\[8, 21\]: expected two odd sizes"),
        ({"shapes": {"box": 1.0}}, r"shapes=.*box.*: expected frequencies of gaussian, "),
        ({"stages": []}, r"stages=\[\]: expected at least one stage"),
        ({"stages": [{"blur": 1.0}]}, r"stages.* needs sinc, sigma"),
        ({"final_sinc": 1.5}, r"final_sinc=1\.5: expected from 0 to 1"),
    ],
)
def test_a_value_out_of_range_is_an_error(changes: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        build("high_order", 4, **changes)
