"""The fit of the noise model recovers known noise."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve

from realsr.core.errors import UserError
from realsr.data.pool_files import CameraNoise, read_noise_model, write_noise_model
from realsr.imaging import write_uint8
from realsr.noise.noise_fit import (
    BLOCK,
    BLOCKS,
    LAGS,
    correct_covariance,
    make_filter,
    measure_blocks,
    sum_products,
)
from stages import fit_noise_model

COLOUR = 0.5


def deviation(levels: np.ndarray) -> np.ndarray:
    """The known level: a curve that rises and falls, in 8-bit levels."""
    return 2 + 4 * np.sin(np.pi * levels / 255)


def draw(rng: np.random.Generator, height: int, width: int, blur: float) -> np.ndarray:
    """Correlated noise of unit variance, (h, w, 3)."""
    noise = gaussian_filter(rng.standard_normal((height, width, 3)), (blur, blur, 0), mode="wrap")
    root = np.linalg.cholesky(np.full((3, 3), COLOUR) + (1 - COLOUR) * np.eye(3))
    return noise / noise.std() @ root.T


def make_photos(folder: Path, blur: float, gains: tuple[float, ...]) -> None:
    """A ramp of brightness beside texture, which is more than half of each photo."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    ramp = np.linspace(5, 250, 512)[None, :, None] * np.ones((192, 1, 3))
    texture = gaussian_filter(rng.normal(0, 300, (256, 512, 1)), (1.5, 1.5, 0)) + ramp[:1]
    clean = np.concatenate([ramp, texture])
    for number, gain in enumerate(gains):
        noise = gain * deviation(clean.clip(0, 255)) * draw(rng, *clean.shape[:2], blur)
        photo = np.rint((clean + noise).clip(0, 255)).astype(np.uint8)
        write_uint8(folder / f"{number}.png", photo)


@pytest.mark.parametrize("blur", [0.0, 1.0])
def test_level_and_correlation_are_those_of_the_photos(blur: float, tmp_path: Path) -> None:
    make_photos(tmp_path / "source", blur, (1.0, 0.7, 1.4))
    file = fit_noise_model(tmp_path / "source", tmp_path / "pool", workers=0)
    noise = read_noise_model(file)
    np.testing.assert_allclose(noise.gains, [1.0, 0.7, 1.4], rtol=0.07)
    brightness = np.linspace(0.05, 0.95, 19)
    expected = deviation(255 * brightness) / 255
    assert np.abs(noise.level(brightness) / expected - 1).max() < 0.1

    rng = np.random.default_rng(1)
    white = rng.standard_normal((3, 300, 300))
    sample = np.stack(
        [sum(fftconvolve(white[j], row[j], "valid") for j in range(3)) for row in noise.filter]
    )
    truth = draw(rng, 300, 300, blur).transpose(2, 0, 1)
    for lag in (0, 1, 2):
        both = [(z[:, :, lag:] * z[:, :, : z.shape[2] - lag]).mean() for z in (sample, truth)]
        assert both[0] == pytest.approx(both[1], abs=0.06)
    assert np.corrcoef(sample.reshape(3, -1))[0, 1] == pytest.approx(COLOUR, abs=0.06)

    before = file.stat().st_mtime_ns
    fit_noise_model(tmp_path / "source", tmp_path / "pool", workers=0)
    assert file.stat().st_mtime_ns == before, "finished work is not repeated"
    write_uint8(tmp_path / "source/9.png", np.full((64, 64, 3), 90, np.uint8))
    with pytest.raises(UserError, match=r"noise_model has another .*\n.*9\.png: new"):
        fit_noise_model(tmp_path / "source", tmp_path / "pool", workers=0)


def test_photos_without_noise_are_refused(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    write_uint8(tmp_path / "source/a.png", np.full((128, 128, 3), 90, np.uint8))
    with pytest.raises(UserError, match=r"fewer than 50 of 0 blocks .* in 1 photos are flat"):
        fit_noise_model(tmp_path / "source", tmp_path / "pool", workers=0)


def test_blocks_are_measured_about_their_plane() -> None:
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:BLOCK, :BLOCK]
    flat = rng.integers(100, 110, (BLOCK, BLOCK, 3)) + (2 * rows - columns)[..., None]
    image = np.concatenate([np.zeros((BLOCK, BLOCK, 3), int), flat], axis=1).astype(np.uint8)
    (block,) = measure_blocks(image)
    assert (block["top"], block["left"]) == (0, BLOCK), "the first is clipped"
    basis = np.stack([np.ones(BLOCK**2), rows.ravel(), columns.ravel()], axis=1)
    pixels = flat.reshape(-1, 3).astype(float)
    residual = pixels - basis @ np.linalg.lstsq(basis, pixels, rcond=None)[0]
    np.testing.assert_allclose(block["mean"], pixels.mean(axis=0), rtol=1e-6)
    expected = np.square(residual).sum(axis=0) / (BLOCK**2 - 3)
    np.testing.assert_allclose(block["variance"], expected, rtol=1e-3)


def test_what_planes_remove_is_restored() -> None:
    kernel = cv2.getGaussianKernel(5, 0.9)
    shape = np.convolve(kernel.ravel(), kernel.ravel())
    shape = np.pad(shape, LAGS - 4) / shape.max()
    truth = np.outer(shape, shape)
    rng = np.random.default_rng(0)
    noise = cv2.filter2D(rng.standard_normal((804, 804, 3)), -1, kernel @ kernel.T)[2:-2, 2:-2]
    noise /= np.square(kernel).sum()
    blocks = np.zeros(50 * 50, BLOCKS)
    blocks["top"], blocks["left"] = BLOCK * np.mgrid[:50, :50].reshape(2, -1)
    sums = sum_products(noise, blocks, np.ones((len(blocks), 3)))
    before = sums / len(blocks)
    after = correct_covariance(before)
    assert before[0, 0, LAGS, LAGS] < 0.95
    np.testing.assert_allclose(after[0, 0], truth, atol=0.04)
    assert after[0, 0, LAGS, LAGS] == pytest.approx(1, abs=0.02)
    filters = make_filter(after)
    np.testing.assert_allclose(np.square(filters).sum((1, 2, 3)), 1)


def test_a_file_holds_the_model_and_other_files_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = CameraNoise(rng.random((3, 5)), rng.random((3, 3, 3, 3)), np.array([0.5, 1]))
    write_noise_model(tmp_path / "a.json", noise)
    again = read_noise_model(tmp_path / "a.json")
    for name in CameraNoise.__dataclass_fields__:
        np.testing.assert_allclose(getattr(again, name), getattr(noise, name), atol=1e-7)
    for text in ("{}", "[]", "x", (tmp_path / "a.json").read_text().replace("0.5", '"y"')):
        (tmp_path / "b.json").write_text(text)
        with pytest.raises(UserError, match=r"b\.json: not a noise model"):
            read_noise_model(tmp_path / "b.json")
