"""Statistics of made images whose noise, blur, sharpening and blocks are known."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from realsr.domains.edges import measure_blocking, measure_edges
from realsr.domains.measurement import choose_regions, measure_regions
from realsr.domains.tile_statistics import measure_tiles


def regions_of(image: np.ndarray) -> np.ndarray:
    levels = np.rint(image.clip(0, 255)).astype(np.uint8)
    return choose_regions(levels, 256, np.random.default_rng(0))


def flat_photo(noise: np.ndarray) -> np.ndarray:
    """A photo of two gray walls, lit unevenly, with noise (h, w, 3)."""
    height, width = noise.shape[:2]
    walls = np.where(np.arange(width) < width // 2, 60.0, 170.0)
    shading = np.linspace(-4, 4, height)[:, None]
    return (walls + shading)[..., None] + noise


def test_noise_is_measured_by_brightness() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(256, 512, 3)) * [2, 3, 4]
    noise[:, 256:] *= 0.5
    levels = measure_tiles(regions_of(flat_photo(noise)))[0]["noise_level"]
    assert levels[:, 1] == pytest.approx([2, 3, 4], rel=0.06)
    assert levels[:, 5] == pytest.approx([1, 1.5, 2], rel=0.08)
    assert np.isnan(levels[:, [0, 3, 7]]).all()


def test_correlations_of_noise_are_those_of_its_filter_and_its_channels() -> None:
    rng = np.random.default_rng(0)
    common, own = rng.normal(size=(256, 256, 1)), rng.normal(size=(256, 256, 3))
    noise = 4 * ndimage.convolve1d(common + own, [1, 1], axis=1)  # correlates with the right pixel
    result, _, _ = measure_tiles(regions_of(120 + noise))
    down, right = result["noise_autocorrelation"][1]
    assert right[0] == pytest.approx(0.5, abs=0.05)
    assert np.abs([*right[1:], *down]).max() < 0.06
    assert result["noise_colour_correlation"] == pytest.approx([0.5] * 3, abs=0.05)


def test_an_image_without_noise_or_detail_has_none() -> None:
    plain = np.full((128, 128, 3), 99.0)
    statistics, features, _ = measure_regions(regions_of(plain), 10, np.random.default_rng(0))
    assert np.isnan(statistics["noise_colour_correlation"]).all()
    assert np.isnan(statistics["detail_spectrum"]).all()
    assert np.isnan(statistics["edge_width"]).all()
    assert features.shape == (10, 17)
    assert np.isfinite(features).all()


@pytest.fixture(scope="module")
def blocks() -> np.ndarray:
    """Large blocks of random gray, four times as fine as the image that is made of them."""
    values = np.random.default_rng(0).uniform(30, 220, (16, 16))
    return np.kron(values, np.ones((80, 80)))


def blur(blocks: np.ndarray, sigma: tuple[float, float]) -> np.ndarray:
    return ndimage.gaussian_filter(blocks, [4 * s for s in sigma])[2::4, 2::4]


def widths_of(image: np.ndarray) -> tuple[np.ndarray, float]:
    channel = regions_of(np.repeat(image[..., None], 3, 2))[..., 0].astype(np.float32)
    return measure_edges(channel, 0.5, np.random.default_rng(0))


def test_widths_of_edges_are_those_of_the_blur(blocks: np.ndarray) -> None:
    widths, overshoot = widths_of(blur(blocks, (1.6, 1.1)))  # rows, columns
    assert widths[0] == pytest.approx(1.1, rel=0.12)
    assert widths[1] == pytest.approx(1.6, rel=0.12)
    assert abs(overshoot) < 0.02


def test_sharpening_overshoots(blocks: np.ndarray) -> None:
    soft = blur(blocks, (1.2, 1.2))
    sharp = soft + 1.5 * (soft - ndimage.gaussian_filter(soft, 1))
    assert widths_of(sharp)[1] > widths_of(soft)[1] + 0.03
    assert widths_of(sharp)[0][0] < widths_of(soft)[0][0]


def test_blocks_are_those_of_jpeg_at_any_position() -> None:
    texture, noise = np.random.default_rng(0).normal(size=(2, 320, 320))
    image = 128 + 300 * ndimage.gaussian_filter(texture, 3) + 3 * noise
    image = np.rint(image.clip(0, 255)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=40)
    coded = np.asarray(Image.open(file))
    for levels, low, high in ((image, -0.05, 0.05), (coded, 0.15, 5), (coded[3:, 5:], 0.15, 5)):
        regions = regions_of(np.repeat(levels[..., None], 3, 2))[..., 0].astype(np.float32)
        assert ((low < measure_blocking(regions)) & (measure_blocking(regions) < high)).all()


def test_regions_do_not_depend_on_the_size_of_the_photo() -> None:
    image = np.zeros((640, 1280, 3), np.uint8)
    image[..., 0] = np.arange(1280) // 64
    regions = choose_regions(image, 40, np.random.default_rng(0))
    assert regions.shape == (40, 64, 64, 3)
    assert len(np.unique(regions[:, 0, 0, 0])) > 10
    with pytest.raises(ValueError, match="60x200 pixels are too few"):
        choose_regions(np.zeros((200, 60, 3), np.uint8), 40, np.random.default_rng(0))
