"""Noise that depends on the brightness of LR: patches matched to it, and the noise model."""

import numpy as np
import pytest
import torch

from realsr.data.degradations.degradation import to_batch
from realsr.data.degradations.noise import Noise
from realsr.data.degradations.noise_model import NoiseModel, interpolate
from realsr.data.pool_files import CameraNoise

HR = np.zeros((2, 2, 3), np.uint8)


def patch_of(mean: int, deviation: float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(mean, deviation, (128, 128, 3))
    return np.rint(noise).clip(0, 255).astype(np.uint8)


def degrade(degradation: Noise | NoiseModel, lr: np.ndarray, seed: int) -> np.ndarray:
    arrays = degradation.prepare(lr, 0, 2, np.random.default_rng(seed))
    degraded = degradation.apply(to_batch(arrays, HR))[0].permute(1, 2, 0)
    return 255 * degraded.double().numpy() - lr


def test_patches_are_those_of_the_region_s_brightness() -> None:
    dark, bright = 40, 200
    patches = [patch_of(dark, 2, 0), patch_of(bright, 8, 1), patch_of(dark, 2, 2)]
    matched = Noise("brightness", patches)
    random = [
        degrade(Noise("random", patches), np.full((64, 64, 3), 40, np.uint8), s) for s in range(9)
    ]
    assert {round(noise.std()) for noise in random} == {2, 8}
    for level, expected in (
        (10, 2),
        (40, 2),
        (120, np.sqrt((2**2 + 8**2) / 2)),
        (200, 8),
        (240, 8),
    ):
        lr = np.full((64, 64, 3), level, np.uint8)
        noise = np.stack([degrade(matched, lr, seed) for seed in range(4)])
        assert noise.std() == pytest.approx(expected, rel=0.06)
    lr = np.full((64, 128, 3), dark, np.uint8)
    lr[:, 64:] = bright
    noise = degrade(matched, lr, 0)
    assert noise[:, :60].std() == pytest.approx(2, rel=0.06)
    assert noise[:, 68:].std() == pytest.approx(8, rel=0.06)


def test_the_variance_changes_smoothly_along_a_ramp() -> None:
    matched = Noise("brightness", [patch_of(30, 2, 0), patch_of(230, 8, 1)])
    ramp = np.linspace(30, 230, 512).astype(np.uint8)
    lr = np.broadcast_to(ramp[None, :, None], (128, 512, 3)).copy()
    noise = np.stack([degrade(matched, lr, seed) for seed in range(8)])
    variances = np.square(noise).mean(axis=(0, 1, 3)).reshape(16, 32).mean(axis=1)
    expected = np.interp(ramp.reshape(16, 32).mean(axis=1), [30, 230], [4, 64])
    np.testing.assert_allclose(variances, expected, rtol=0.15)


def test_noise_of_the_model_is_its_formula() -> None:
    rng = np.random.default_rng(0)
    camera = CameraNoise(
        rng.uniform(0.01, 0.05, (3, 5)).astype(np.float32),
        rng.normal(0, 0.3, (3, 3, 3, 3)).astype(np.float32),
        np.array([0.5, 2], np.float32),
    )
    model, lr = NoiseModel(camera), rng.integers(60, 190, (9, 11, 3), dtype=np.uint8)
    gains = set()
    for seed in range(12):
        arrays = model.prepare(lr, 0, 2, np.random.default_rng(seed))
        white, gain = arrays["white"], float(arrays["gain"][0])
        gains.add(gain)
        expected = np.empty((9, 11, 3))
        for row, column, channel in np.ndindex(expected.shape):
            window = white[:, row : row + 3, column : column + 3]
            level = lr[row, column, channel] / 255
            deviation = np.interp(level, np.linspace(0, 1, 5), camera.deviations[channel])
            noise = gain * deviation * (camera.filter[channel] * window).sum()
            expected[row, column, channel] = np.clip(level + noise, 0, 1)
        degraded = model.apply(to_batch(arrays, HR))[0].permute(1, 2, 0)
        np.testing.assert_allclose(degraded.numpy(), expected, atol=1e-5)
    assert gains == {0.5, 2}


def test_interpolation_is_numpy_s_at_both_ends_too() -> None:
    nodes, images = torch.rand(3, 4), torch.rand(2, 3, 5, 6)
    images[0, 0, 0, 0], images[1, 2, 1, 1] = 0, 1
    values = interpolate(nodes, images)
    for channel in range(3):
        expected = np.interp(images[:, channel], np.linspace(0, 1, 4), nodes[channel])
        np.testing.assert_allclose(values[:, channel], expected, atol=1e-6)
