"""Estimate a photo's kernel from its power spectrum, deterministically and in milliseconds.

The power spectrum of a sharp photograph follows a power law of the frequency (Field 1987; Torralba
and Oliva 2003). Degradation at scale 2 multiplies it by the kernel's power spectrum, aliases the
upper half of the band, and adds noise:

    P(f) = c * sum over a of |h|^-b * |K(h)|^2 + n
    h = (f + a) / 2,   |K(h)|^2 = exp(-4 pi^2 h' S h)

With a Gaussian kernel of covariance S the model has six unknowns. They are fitted to the logarithm
of the spectrum, with weak priors on the kernel and the photo. experiments/kernel_recovery compares
this estimator with KernelGAN.

The covariance determines the kernel of two other shapes, too. With l1 >= l2 the eigenvalues of S
and u the eigenvector of l1, the Fourier transforms K(h) are (Goodman, Introduction to Fourier
Optics, 2005, for the disc)

    gaussian    exp(-2 pi^2 h' S h)
    disc        2 J1(z) / z * exp(-2 pi^2 A |h|^2),   z = 4 pi sqrt(h' (S - A I) h)
    motion      sinc(L u' h) * exp(-2 pi^2 l2 |h|^2),   L^2 / 12 = l1 - l2

A disc of radius R has S = (R^2 / 4 + A) I. It may be an ellipse, as near the border of a photo.
A = 1/3 is the variance of an LR pixel's square, which softens its rim.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
from scipy import fft, ndimage, optimize, special

from realsr.core.ranges import Range
from realsr.imaging.kernel_shapes import Kernel
from realsr.kernels.estimator import (
    ALL_SCALES,
    HEALTH,
    KernelEstimate,
    KernelEstimator,
    NoKernelError,
    Observation,
    SourcePhoto,
    check_photo_size,
    measure_health,
)
from realsr.kernels.gaussian import aligned_gaussian, gaussian_covariance

WINDOW = 32
MAX_WINDOWS = 20_000
BAND = (0.06, 0.45)  # cycles per pixel; spectral leakage below, aliasing and noise above
EVIDENCE = 200.0  # effective number of independent spectrum values, relative to the priors
ROBUST_SCALE = 0.2  # of soft-L1: larger residuals (of log power) count less than their square

Shape = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray | float, np.ndarray]]
"""Returns F and g (…) of the transform F(h) exp(-2 pi^2 g(h)), for frequencies h (2, …) and S."""

PIXEL = 1 / 3  # variance of a square of two pixels, s^2 / 12


@dataclass(frozen=True)
class Spectrum:
    """A photo's power spectrum in the band that the fit uses.

    log_power: (N,), of 8-bit levels squared. frequencies: (2, N), rows before columns, in cycles per
    pixel. noise: variance of the white noise.
    """

    log_power: np.ndarray
    frequencies: np.ndarray
    noise: float


@dataclass(frozen=True)
class SpectralFit:
    """The blur that explains a spectrum, and the quality of the fit.

    log_covariance: (3,), the distinct entries of the matrix logarithm of the x2 kernel's covariance.
    residual: median of |log P - log model|. signal: share of the band's power that is not noise,
    0..1. cost: value of the objective that the fit minimises.
    """

    log_covariance: np.ndarray
    residual: float
    signal: float
    cost: float

    def kernel(self, scale: int) -> Kernel:
        """Return the Gaussian of the covariance for a scale s, (8 s + 1, 8 s + 1).

        The covariance S of the x2 kernel is in pixels of half an LR pixel. At scale s an LR pixel
        has s HR pixels, so the covariance is (s/2)^2 S.
        """
        covariance = matrix_exponential(self.log_covariance)
        return aligned_gaussian((scale / 2) ** 2 * covariance, scale)


@dataclass(frozen=True)
class SpectrumEstimator(KernelEstimator):
    """An estimator that fits a blur to each photo's spectrum. Its arguments are the priors of the fit.

    border: pixels ignored at the border. exponent: b, the power-law exponent of a sharp photo.
    width: the kernel's standard deviation in pixels of scale 2. The weights give the strength of the
    priors on the exponent, the width and the measured noise level.
    """

    numbers = (*HEALTH, "residual", "signal")
    scales = ALL_SCALES

    border: Annotated[int, Range(0)]
    exponent: Annotated[float, Range(above=0)]
    exponent_weight: Annotated[float, Range(above=0)]
    width: Annotated[float, Range(above=0)]
    width_weight: Annotated[float, Range(above=0)]
    noise_weight: Annotated[float, Range(above=0)]
    workers: int | None


@dataclass(frozen=True)
class Spectral(SpectrumEstimator):
    """The power-spectrum estimator: one Gaussian for each photo."""

    def observe_photo(self, photo: SourcePhoto) -> Observation:
        """Fit a Gaussian to a photo's spectrum."""
        image, damage = photo.read()
        return Observation(asdict(fit_photo(image, self)), damage)

    def estimate(
        self, observations: Mapping[str, Observation], seed: int
    ) -> Mapping[str, KernelEstimate]:
        """Return the kernels of the observations, with their health and the quality of the fit."""
        estimates = {}
        for name, observation in observations.items():
            fit = SpectralFit(**observation.values)  # type: ignore[arg-type]
            kernels = {scale: [fit.kernel(scale)] for scale in (2, 4)}
            numbers = measure_health(kernels[2][0], kernels[2][0])
            numbers |= {"residual": fit.residual, "signal": fit.signal}
            estimates[name] = KernelEstimate(kernels, numbers)
        return estimates

    def derive(self, kernel: Kernel, scale: int) -> Kernel:
        """Return the kernel of the same blur for a scale from that for scale 2."""
        return aligned_gaussian((scale / 2) ** 2 * gaussian_covariance(kernel), scale)


def fit_photo(image_uint8: np.ndarray, prior: SpectrumEstimator) -> SpectralFit:
    """Fit a Gaussian to the spectrum of a photo (H, W, 3).

    Raises ValueError if the photo is too small, NoKernelError if it has no detail.
    """
    return fit_spectrum(measure_spectrum(image_uint8, prior.border), prior)


def measure_spectrum(image_uint8: np.ndarray, border: int) -> Spectrum:
    """Measure the power spectrum of a photo (H, W, 3) without its border.

    Raises ValueError if the photo is too small, NoKernelError if it has no detail.
    """
    check_photo_size(image_uint8, 2 * WINDOW + 2 * border)
    height, width = image_uint8.shape[:2]
    inner = image_uint8[border : height - border, border : width - border]
    gray = inner @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    frequencies = np.fft.fftfreq(WINDOW)
    rows, columns = np.meshgrid(frequencies, frequencies[: WINDOW // 2 + 1], indexing="ij")
    radius = np.hypot(rows, columns)
    band = (radius > BAND[0]) & (radius < BAND[1]) & ((columns > 0) | (rows > 0))
    power = power_spectrum(gray)[band]
    if not power.min() > 1e-6:  # only the rounding of float32
        raise NoKernelError(
            "the photo is flat or has no detail in some direction; use one with detail in focus"
        )
    return Spectrum(np.log(power), np.stack([rows[band], columns[band]]), noise_power(gray))


def power_spectrum(gray: np.ndarray) -> np.ndarray:
    """Return the power spectrum (32, 17) of an image (H, W), in its units squared.

    It is the mean over overlapping Hann windows (Welch 1967).
    """
    profile = np.hanning(WINDOW + 2)[1:-1]
    taper = np.outer(profile, profile).astype(np.float32)
    taper /= np.sqrt((taper**2).sum())
    step = WINDOW // 4
    while (gray.shape[0] // step) * (gray.shape[1] // step) > MAX_WINDOWS:
        step += 1
    windows = np.lib.stride_tricks.sliding_window_view(gray, (WINDOW, WINDOW))[::step, ::step]
    total = np.zeros((WINDOW, WINDOW // 2 + 1))
    for row in windows:
        means = (row * taper).sum((1, 2), keepdims=True) / taper.sum()
        spectra = fft.rfft2((row - means) * taper)
        total += (spectra.real**2 + spectra.imag**2).sum(0, dtype=np.float64)
    return total / (windows.shape[0] * windows.shape[1])


def noise_power(gray: np.ndarray) -> float:
    """Return the variance of the white noise of an image (H, W), at least 0.01.

    It is estimated from the flattest regions.
    """
    differences = gray[:-1, :-1] - gray[1:, :-1] - gray[:-1, 1:] + gray[1:, 1:]
    local = ndimage.uniform_filter(differences**2, 15)[8:-8, 8:-8] / 4
    return max(float(np.quantile(local, 0.02)), 0.01)


def fit_spectrum(
    spectrum: Spectrum,
    prior: SpectrumEstimator,
    shape: str = "gaussian",
    start: np.ndarray | None = None,
) -> SpectralFit:
    """Fit the model of this module to a photo's spectrum.

    shape: of the blur, a key of `SHAPES`. start: initial log covariance (3,), the prior's if None.
    """
    log_power, frequencies, noise = spectrum.log_power, spectrum.frequencies, spectrum.noise
    shifts = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1], indexing="ij")).reshape(2, 9, 1)
    h = (frequencies[:, None] + shifts) / 2  # (2, 9, N)
    inside = (np.abs(h) <= 0.5).all(0)
    log_radius = np.log(np.maximum(np.hypot(*h), 0.02))
    weights = np.hypot(*frequencies) ** -0.5
    weights *= np.sqrt(EVIDENCE / (weights**2).sum())
    log_width = 2 * np.log(prior.width)

    def signal(x: np.ndarray) -> np.ndarray:
        """Return the model's power without noise (N,).

        x: log covariance (3), log c, log noise gain, offset of the exponent.
        """
        factor, form = SHAPES[shape](h, matrix_exponential(x[:3]))
        aliases = np.exp(x[3] - (prior.exponent + x[5]) * log_radius - 4 * np.pi**2 * form)
        return (factor**2 * aliases * inside).sum(0)

    def misfit(x: np.ndarray) -> np.ndarray:
        return log_power - np.log(signal(x) + noise * np.exp(x[4]))

    def residuals(x: np.ndarray) -> np.ndarray:
        width = np.array([x[0] - log_width, x[2] - log_width, np.sqrt(2) * x[1]])
        priors = [*(prior.width_weight * width), prior.noise_weight * x[4]]
        priors.append(prior.exponent_weight * x[5])
        return np.concatenate([misfit(x) * weights, priors])

    blur = np.array([log_width, 0, log_width]) if start is None else start
    first = np.array([*blur, 0, 0, 0])
    first[3] = np.median(log_power - np.log(signal(first)))
    fit = optimize.least_squares(residuals, first, loss="soft_l1", f_scale=ROBUST_SCALE)
    x = fit.x
    return SpectralFit(
        log_covariance=x[:3],
        residual=float(np.median(np.abs(misfit(x)))),
        signal=float(np.mean(signal(x) / (signal(x) + noise * np.exp(x[4])))),
        cost=float(fit.cost),
    )


def matrix_exponential(entries: np.ndarray) -> np.ndarray:
    """Return exp of the symmetric matrix [[e0, e1], [e1, e2]], eigenvalues within exp(-3)..exp(3)."""
    values, vectors = np.linalg.eigh(np.array([[entries[0], entries[1]], [entries[1], entries[2]]]))
    return (vectors * np.exp(np.clip(values, -3, 3))) @ vectors.T


def split_gaussian(h: np.ndarray, covariance: np.ndarray) -> tuple[float, np.ndarray]:
    """Return F and g of a Gaussian, see `Shape`."""
    (a, b), (_, d) = covariance
    return 1.0, a * h[0] ** 2 + 2 * b * h[0] * h[1] + d * h[1] ** 2


def split_disc(h: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return F and g of an elliptic disc, see `Shape`.

    It is a Gaussian in a direction in which the covariance is less than the square's.
    """
    _, form = split_gaussian(h, covariance)
    sharp = np.maximum(form - PIXEL * (h**2).sum(0), 0)
    z = np.maximum(4 * np.pi * np.sqrt(sharp), 1e-6)
    return 2 * special.j1(z) / z, form - sharp


def split_motion(h: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return F and g of straight motion, see `Shape`."""
    (short, long), axes = np.linalg.eigh(covariance)
    along = np.sqrt(12 * (long - short)) * (axes[0, 1] * h[0] + axes[1, 1] * h[1])
    return np.sinc(along), short * (h**2).sum(0)


SHAPES: Mapping[str, Shape] = {
    "gaussian": split_gaussian,
    "disc": split_disc,
    "motion": split_motion,
}
