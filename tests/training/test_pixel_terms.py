"""Terms that compare pixels or frequencies, against their papers' formulas in NumPy."""

import numpy as np
import pytest
import torch
from torch import Tensor

from realsr.core.errors import UserError
from realsr.training.loss_terms.charbonnier import Charbonnier
from realsr.training.loss_terms.fft import FFT
from realsr.training.loss_terms.focal_frequency import FocalFrequency
from realsr.training.loss_terms.ldl import LDL, artifact_map
from realsr.training.loss_terms.term import LossTerm, StepTensors


def images(count: int = 3, shape: tuple[int, ...] = (2, 3, 16, 24), seed: int = 0) -> list[Tensor]:
    chance = torch.Generator().manual_seed(seed)
    return [torch.rand(shape, generator=chance, dtype=torch.float64) for _ in range(count)]


def value(term: LossTerm, sr: Tensor, hr: Tensor, sr_ema: Tensor | None = None) -> Tensor:
    return term(StepTensors(hr, hr, sr, sr_ema))


def check_gradient(term: LossTerm, sr: Tensor, hr: Tensor, sr_ema: Tensor | None = None) -> None:
    assert torch.autograd.gradcheck(lambda x: value(term, x, hr, sr_ema), sr.requires_grad_())


def test_charbonnier_is_the_written_out_formula() -> None:
    sr, hr, _ = images()
    difference = sr.numpy() - hr.numpy()
    expected = np.mean(np.sqrt(difference**2 + 0.25**2))
    assert value(Charbonnier(0.25), sr, hr).item() == pytest.approx(expected)
    assert value(Charbonnier(1e-3), hr, hr).item() == pytest.approx(1e-3)
    check_gradient(Charbonnier(0.1), *images(2, (1, 3, 4, 5)))


def transform(image: np.ndarray) -> np.ndarray:
    """The two-dimensional Fourier transform by its definition."""
    rows, columns = (np.arange(side) for side in image.shape[-2:])
    left = np.exp(-2j * np.pi * np.outer(rows, rows) / len(rows))
    right = np.exp(-2j * np.pi * np.outer(columns, columns) / len(columns))
    return left @ image @ right


def test_fft_is_the_mean_absolute_difference_of_real_and_imaginary_parts() -> None:
    sr, hr, _ = images()
    a, b = transform(sr.numpy()), transform(hr.numpy())
    expected = (np.abs(a.real - b.real).mean() + np.abs(a.imag - b.imag).mean()) / 2
    assert value(FFT(), sr, hr).item() == pytest.approx(expected)
    check_gradient(FFT(), *images(2, (1, 3, 5, 7)))


def focal_frequency(
    sr: np.ndarray, hr: np.ndarray, alpha: float, ave_spectrum: bool, log_matrix: bool
) -> float:
    """The loss of whole images, frequency by frequency."""
    height, width = sr.shape[-2:]
    a, b = (transform(image) / (height * width) ** 0.5 for image in (sr, hr))
    if ave_spectrum:
        a, b = a.mean(0)[None], b.mean(0)[None]
    losses = []
    for image, channel in np.ndindex(a.shape[:2]):
        weights, distances = [], []
        for u, v in np.ndindex(height, width):
            p, q = a[image, channel, u, v], b[image, channel, u, v]
            distances.append((p.real - q.real) ** 2 + (p.imag - q.imag) ** 2)
            weight = distances[-1] ** (alpha / 2)
            weights.append(np.log(weight + 1) if log_matrix else weight)
        losses.append(np.mean(np.array(weights) / max(weights) * np.array(distances)))
    return float(np.mean(losses))


@pytest.mark.parametrize("alpha", [0.0, 1.0, 1.5])
@pytest.mark.parametrize("ave_spectrum", [False, True])
@pytest.mark.parametrize("log_matrix", [False, True])
def test_focal_frequency_is_the_written_out_formula(
    alpha: float, ave_spectrum: bool, log_matrix: bool
) -> None:
    sr, hr, _ = images()
    expected = focal_frequency(sr.numpy(), hr.numpy(), alpha, ave_spectrum, log_matrix)
    term = FocalFrequency(alpha, 1, ave_spectrum, log_matrix)
    assert value(term, sr, hr).item() == pytest.approx(expected)
    assert value(term, hr, hr).item() == 0


def test_focal_frequency_transforms_patches_apart() -> None:
    sr, hr, _ = images()
    patches = [
        focal_frequency(
            *(x.numpy()[..., i : i + 8, j : j + 12] for x in (sr, hr)), 1.0, False, False
        )
        for i in (0, 8)
        for j in (0, 12)
    ]
    assert value(FocalFrequency(1.0, 2, False, False), sr, hr).item() == pytest.approx(
        np.mean(patches)
    )
    with pytest.raises(UserError, match="patch_factor=3: cannot divide crops of 16x24"):
        value(FocalFrequency(1.0, 3, False, False), sr, hr)


def test_focal_frequency_has_no_gradient_through_its_weight() -> None:
    sr, hr, _ = images()
    check_gradient(FocalFrequency(0.0, 1, False, False), *images(2, (1, 2, 4, 6)))
    sr.requires_grad_()
    value(FocalFrequency(1.0, 1, False, False), sr, hr).backward()
    # The loss is w |F d|^2, of which the gradient is 2 F^-1 (w F d) where w is constant.
    difference = torch.fft.fft2(sr.detach() - hr, norm="ortho")
    weight = difference.abs() / difference.abs().amax((-2, -1), keepdim=True)
    expected = 2 * torch.fft.ifft2(weight * difference, norm="ortho").real / sr.numel()
    torch.testing.assert_close(sr.grad, expected)


def test_ldl_is_the_written_out_formula() -> None:
    sr, hr, sr_ema = images()
    window, (count, channels, height, width) = 5, sr.shape
    a, b, c = (image.numpy() for image in (sr, hr, sr_ema))
    loss = 0.0
    for n in range(count):
        residual, residual_ema = np.zeros((height, width)), np.zeros((height, width))
        for channel in range(channels):
            residual += abs(b[n, channel] - a[n, channel])
            residual_ema += abs(b[n, channel] - c[n, channel])
        stability = np.var(residual, ddof=1) ** 0.2
        padded = np.pad(residual, window // 2, mode="reflect")
        expected = np.zeros((height, width))
        for i, j in np.ndindex(height, width):
            if residual[i, j] >= residual_ema[i, j]:
                local = np.var(padded[i : i + window, j : j + window], ddof=1)
                expected[i, j] = stability * local
        assert 0 < np.mean(expected == 0) < 1
        result = artifact_map(*(x[n : n + 1] for x in (sr, hr, sr_ema)), window)
        np.testing.assert_allclose(result[0, 0].numpy(), expected, rtol=1e-9)
        loss += np.abs(expected * a[n] - expected * b[n]).mean() / count
    assert value(LDL(window), sr, hr, sr_ema).item() == pytest.approx(loss)


def test_ldl_is_zero_where_sr_is_nearer_to_hr_than_the_average_is() -> None:
    sr, hr, _ = images()
    assert value(LDL(7), sr, hr, sr + 2 * (sr - hr)).item() == 0
    assert value(LDL(7), sr, hr, hr).item() > 0


def test_ldl_s_gradient_is_that_of_the_whole_formula() -> None:
    sr, hr, sr_ema = images(3, (1, 2, 6, 6))
    check_gradient(LDL(3), sr, hr, sr_ema)


def test_ldl_refuses_an_even_window() -> None:
    with pytest.raises(ValueError, match="window=6 is even: expected an odd number"):
        LDL(6)
