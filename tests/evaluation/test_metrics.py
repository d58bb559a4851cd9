import math

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d

from realsr.evaluation.metrics.ms_ssim import ms_ssim
from realsr.evaluation.metrics.psnr import psnr, rgb_to_y
from realsr.evaluation.metrics.ssim import ssim
from realsr.imaging import crop_to_multiple, resize, to_float


def pair(height: int = 24, width: int = 31) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    reference = torch.rand(3, height, width, generator=generator)
    return (reference + 0.1 * torch.randn(3, height, width, generator=generator)), reference


def as_levels(image: torch.Tensor) -> np.ndarray:
    return np.rint(image.clamp(0, 1).numpy() * np.float32(255)).astype(np.float64)


def slow_ssim_plane(a: np.ndarray, b: np.ndarray) -> float:
    """Wang et al. 2004, window by window."""
    x = np.arange(11) - 5
    window = np.exp(-(x[:, None] ** 2 + x[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for top in range(a.shape[0] - 10):
        for left in range(a.shape[1] - 10):
            p, q = (z[top : top + 11, left : left + 11] for z in (a, b))
            mp, mq = (window * p).sum(), (window * q).sum()
            vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
            cov = (window * (p - mp) * (q - mq)).sum()
            numerator = (2 * mp * mq + 6.5025) * (2 * cov + 58.5225)
            values.append(numerator / ((mp**2 + mq**2 + 6.5025) * (vp + vq + 58.5225)))
    return float(np.mean(values))


def test_luma_of_known_colours():
    colours = torch.tensor(
        [[0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float64
    )
    luma = rgb_to_y(colours.T.reshape(3, 1, 5))
    assert luma.shape == (1, 1, 5)
    expected = [16, 235, 81.481, 144.553, 40.966]  # MATLAB's rgb2ycbcr, not rounded
    assert (luma[0, 0] * 255).tolist() == pytest.approx(expected, abs=1e-9)
    assert rgb_to_y(torch.rand(2, 5, 3, 4, 6)).shape == (2, 5, 1, 4, 6)


def test_psnr_of_a_known_difference():
    a = torch.full((3, 12, 12), 100 / 255)
    assert psnr(a, a) == math.inf
    assert psnr(torch.full_like(a, 110 / 255), a) == pytest.approx(
        20 * math.log10(255 / 10), abs=1e-9
    )
    # One channel only: a third of the squared error. On luma: 10 levels of red are 2.5679 of Y.
    red = a.clone()
    red[0] = 110 / 255
    assert psnr(red, a) == pytest.approx(10 * math.log10(3 * 255**2 / 100), abs=1e-9)
    expected = 20 * math.log10(255 / (10 * 65.481 / 255))
    assert psnr(red, a, luma=True) == pytest.approx(expected, abs=1e-9)


def test_images_are_rounded_to_8_bit_first():
    a = torch.full((3, 12, 12), 100 / 255)
    assert psnr(a + 0.4 / 255, a) == math.inf
    assert ssim(a + 0.4 / 255, a) == 1
    assert psnr(a + 0.6 / 255, a) == pytest.approx(20 * math.log10(255), abs=1e-9)
    assert psnr(torch.full_like(a, 1.7), torch.ones_like(a)) == math.inf


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_crop_leaves_the_border_out(metric):
    result, reference = pair()
    spoilt = result.clone()
    spoilt[:, :3], spoilt[:, -3:], spoilt[..., :3], spoilt[..., -3:] = 0, 1, 1, 0
    assert metric(spoilt, reference, crop=3) == metric(result, reference, crop=3)
    assert metric(spoilt, reference, crop=2) != metric(result, reference, crop=2)
    inner = (slice(None), slice(3, -3), slice(3, -3))
    assert metric(result, reference, crop=3) == metric(result[inner], reference[inner])


@pytest.mark.parametrize("luma", [False, True])
def test_ssim_is_the_plain_formula(luma):
    result, reference = pair(17, 20)
    a, b = as_levels(result), as_levels(reference)
    if luma:
        a, b = (np.tensordot([65.481, 128.553, 24.966], x / 255, 1)[None] + 16 for x in (a, b))
    expected = np.mean([slow_ssim_plane(x, y) for x, y in zip(a, b, strict=True)])
    assert ssim(result, reference, luma=luma) == pytest.approx(expected, abs=1e-10)


def test_agrees_with_scikit_image():
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    result, reference = pair(48, 40)
    a, b = as_levels(result), as_levels(reference)
    assert psnr(result, reference) == pytest.approx(
        metrics.peak_signal_noise_ratio(b, a, data_range=255)
    )
    maps = metrics.structural_similarity(
        a, b, channel_axis=0, data_range=255, full=True, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False,
    )[1]  # fmt: skip
    assert ssim(result, reference) == pytest.approx(maps[:, 5:-5, 5:-5].mean(), abs=1e-10)


def test_the_uniform_window_is_scikit_image_s_default():
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    result, reference = pair(48, 40)
    a, b = as_levels(result).astype(np.uint8), as_levels(reference).astype(np.uint8)
    expected = metrics.structural_similarity(a, b, channel_axis=0)
    assert ssim(result, reference, uniform=True) == pytest.approx(expected, abs=1e-12)
    assert abs(ssim(result, reference) - expected) > 1e-3
    expected = metrics.structural_similarity(a[:, 4:-4, 4:-4], b[:, 4:-4, 4:-4], channel_axis=0)
    assert ssim(result, reference, crop=4, uniform=True) == pytest.approx(expected, abs=1e-12)
    with pytest.raises(ValueError, match="at least 7x7 pixels"):
        ssim(*pair(6, 20), uniform=True)


def test_ssim_is_symmetric_and_bounded():
    result, reference = pair()
    assert ssim(result, reference) == pytest.approx(ssim(reference, result), abs=1e-12)
    assert ssim(reference, reference) == pytest.approx(1, abs=1e-12)
    assert ssim(1 - reference, reference) < 0


def test_bicubic_upsampling_has_the_known_score():
    """Four photos, RGB, crop 4: 27.17 dB and 0.7885 for bicubic, a number known from the field's code."""
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
    scores = []
    for photo in (data.astronaut(), data.chelsea(), data.coffee(), data.rocket()):
        reference = crop_to_multiple(to_float(photo), 4)
        low = resize(reference, factor=1 / 4).clamp(0, 1).mul(255).round() / 255
        result = resize(low, factor=4)
        scores.append((psnr(result, reference, crop=4), ssim(result, reference, crop=4)))
    assert np.mean([p for p, _ in scores]) == pytest.approx(27.17, abs=0.01)
    assert np.mean([s for _, s in scores]) == pytest.approx(0.7885, abs=0.0005)


def test_unusable_images_are_refused():
    a = torch.rand(3, 20, 20)
    for metric in (psnr, ssim):
        with pytest.raises(ValueError, match=r"\(3, 20, 20\) and \(3, 20, 19\)"):
            metric(a, a[..., :19])
        with pytest.raises(ValueError, match="expected"):
            metric(a[:1], a[:1])
        with pytest.raises(ValueError, match="at least"):
            metric(a, a, crop=10)
    with pytest.raises(ValueError, match="at least 21x21 pixels, got 20x20"):
        ssim(a, a, crop=5)


def slow_ms_ssim_plane(a: np.ndarray, b: np.ndarray) -> float:
    """Wang et al. 2003 with scipy, as the authors' MATLAB program: imfilter by ones(2)/4, symmetric, then 1:2:end."""
    x = np.arange(11) - 5
    window = np.exp(-(x[:, None] ** 2 + x[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    value = 1.0
    for weight in (0.0448, 0.2856, 0.3001, 0.2363, 0.1333):
        mp, mq, pp, qq, pq = (convolve2d(z, window, "valid") for z in (a, b, a * a, b * b, a * b))
        contrast = (2 * (pq - mp * mq) + 58.5225) / (pp - mp**2 + qq - mq**2 + 58.5225)
        last = weight == 0.1333
        luminance = (2 * mp * mq + 6.5025) / (mp**2 + mq**2 + 6.5025) if last else 1
        value *= (luminance * contrast).mean() ** weight
        a, b = (
            convolve2d(np.pad(z, ((0, 1), (0, 1)), "symmetric"), np.ones((2, 2)) / 4, "valid")
            for z in (a, b)
        )
        a, b = a[::2, ::2], b[::2, ::2]
    return value


def photo_pair(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
    reference = to_float(data.astronaut()[:height, :width])
    generator = torch.Generator().manual_seed(1)
    blurred = 0.7 * reference + 0.3 * reference.roll((2, 2), (1, 2))
    return blurred + 0.05 * torch.randn(reference.shape, generator=generator), reference


@pytest.mark.parametrize("size", [(176, 192), (179, 201)])
def test_ms_ssim_is_the_plain_formula(size):
    result, reference = photo_pair(*size)
    planes = zip(as_levels(result), as_levels(reference), strict=True)
    expected = np.mean([slow_ms_ssim_plane(a, b) for a, b in planes])
    assert 0.5 < expected < 0.95
    assert ms_ssim(result, reference) == pytest.approx(expected, abs=1e-9)


def test_ms_ssim_is_that_of_pytorch_msssim_where_sides_stay_even():
    library = pytest.importorskip("pytorch_msssim", reason="pytorch-msssim is not installed")
    result, reference = photo_pair(176, 192)
    images = [torch.from_numpy(as_levels(image))[None] for image in (result, reference)]
    assert ms_ssim(result, reference) == pytest.approx(
        float(library.ms_ssim(*images, data_range=255)), abs=1e-5
    )


def test_ms_ssim_of_equal_opposite_and_small_images():
    _, reference = photo_pair(176, 176)
    assert ms_ssim(reference, reference) == pytest.approx(1, abs=1e-12)
    assert ms_ssim(1 - reference, reference) == 0
    with pytest.raises(ValueError, match="at least 176x176 pixels, got 174x174"):
        ms_ssim(reference[:, 1:-1, 1:-1], reference[:, 1:-1, 1:-1])
