"""Estimate the kernels of a camera from all its photos, with its sharpening in doubt.

The spectrum of a photo depends on its content as much as on the blur, so the fit of `spectral` errs
by the photo. The photos of a camera share the blur. With x the logarithm of a kernel's covariance,
x_i that of photo i, y_i its estimate from the spectrum, and the camera's mean m:

    x_i = m + N(0, spread^2),   y_i = x_i + N(0, error^2)

m is estimated by a robust mean of the y_i. Each kernel is a draw from the posterior of x_i given
m and y_i, so that the pool has the spread of the camera, not that of the estimator.

Sharpening in the camera (an unsharp mask of amount a on the LR image) multiplies the spectrum by
|1 + a (1 - exp(-2 pi^2 r^2 |f|^2))|^2. A smaller exponent of the scene's spectrum has nearly the
same effect, so the amount cannot be estimated from spectra (experiments/kernel_recovery). The draws
of a photo have amounts across the range `sharpening` instead. For each amount the blur is fitted to
the spectrum without this sharpening, and the kernel is that blur with the sharpening: a Gaussian
with a negative ring.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from scipy import optimize

from realsr.core.errors import UserError
from realsr.core.ranges import Range
from realsr.core.seeding import numpy_generator
from realsr.imaging import ImageError
from realsr.imaging.kernel_shapes import Kernel, aligned_centre
from realsr.kernels.estimator import (
    KernelEstimate,
    Observation,
    SourcePhoto,
    measure_health,
)
from realsr.kernels.gaussian import gaussian_kernel
from realsr.kernels.spectral import (
    Spectrum,
    SpectrumEstimator,
    fit_spectrum,
    matrix_exponential,
    measure_spectrum,
)

MIN_GROUP = 4  # photos of one focal length and size that have a mean of their own
OUTLIER = 1.5  # of the robust mean, in standard deviations (Huber 1964)
MEAN_STEPS = 20


@dataclass(frozen=True)
class Camera(SpectrumEstimator):
    """Kernels of a camera; see the module. For the priors of the fit see `SpectrumEstimator`.

    draws: kernels per photo. sharpening: lowest and highest amount of the unsharp mask. radius: its
    standard deviation, in LR pixels. spread, error: standard deviations of the model above, of the
    logarithm of the covariance; a spread of 0.2 is 10 % of the kernel's width.
    """

    joint = True

    draws: Annotated[int, Range(1)]
    sharpening: tuple[Annotated[float, Range(0)], Annotated[float, Range(0)]]
    radius: Annotated[float, Range(above=0)]
    spread: Annotated[float, Range(above=0)]
    error: Annotated[float, Range(above=0)]

    def __post_init__(self) -> None:
        if self.sharpening[0] > self.sharpening[1]:
            low, high = self.sharpening
            raise UserError(f"sharpening=[{low},{high}]: expected [lowest,highest]")

    @property
    def amounts(self) -> np.ndarray:
        """Amounts of sharpening of a photo's draws (draws,): the centres of equal intervals."""
        low, high = self.sharpening
        return low + (high - low) * (np.arange(self.draws) + 0.5) / self.draws

    def observe_photo(self, photo: SourcePhoto) -> Observation | Exception:
        """Fit the blur to a photo's spectrum for each amount; a portrait photo is turned."""
        try:
            image, damage = photo.read()
            spectrum = measure_spectrum(image, self.border)
            fits = [
                fit_spectrum(remove_sharpening(spectrum, amount, self.radius), self)
                for amount in self.amounts
            ]
        except (ImageError, ValueError) as error:
            return error
        try:
            focal_length = photo.tags.focal_length or 0.0
        except (OSError, ValueError, SyntaxError):
            focal_length = 0.0  # Pillow cannot open the file, or a damaged block
        height, width = image.shape[:2]
        blurs = np.array([fit.log_covariance for fit in fits])
        values = {
            "fits": np.array([turn(x) for x in blurs]) if height > width else blurs,
            "residual": np.array([fit.residual for fit in fits]),
            "signal": np.array([fit.signal for fit in fits]),
            "portrait": np.array(height > width),
            "group": np.array([focal_length, max(height, width), min(height, width)]),
        }
        return Observation(values, damage)

    def estimate(
        self, observations: Mapping[str, Observation], seed: int
    ) -> Mapping[str, KernelEstimate]:
        """Return the draws of each photo."""
        groups = _group_photos(observations)
        estimates = {}
        for names in groups.values():
            fits = np.stack([observations[name].values["fits"] for name in names])
            means = robust_mean(fits, np.hypot(self.spread, self.error))
            gain = self.spread**2 / (self.spread**2 + self.error**2)
            deviation = np.sqrt(gain) * self.error
            for name, fit in zip(names, fits, strict=True):
                rng = numpy_generator(seed, "kernels", name)
                blurs = means + gain * (fit - means) + deviation * rng.standard_normal(fit.shape)
                estimates[name] = self._make_estimate(blurs, observations[name])
        return estimates

    def derive(self, kernel: Kernel, scale: int) -> Kernel:
        """Return the kernel of the same blur and sharpening for a scale from that for scale 2.

        The kernel determines the covariance and the amount: both are fitted to it.
        """

        def residuals(x: np.ndarray) -> np.ndarray:
            model = sharp_kernel(matrix_exponential(x[:3]), x[3], self.radius, 2)
            return ((model - kernel) / kernel.max()).ravel()

        start = [*2 * np.log(self.width) * np.array([1, 0, 1]), np.mean(self.sharpening)]
        x = optimize.least_squares(residuals, start, xtol=1e-14, ftol=1e-14, gtol=1e-14).x
        covariance = (scale / 2) ** 2 * matrix_exponential(x[:3])
        return sharp_kernel(covariance, x[3], self.radius, scale)

    def _make_estimate(self, blurs: np.ndarray, observation: Observation) -> KernelEstimate:
        """Return the kernels of a photo from its draws (draws, 3), turned back if need be."""
        values = observation.values
        covariances = [matrix_exponential(turn(x) if values["portrait"] else x) for x in blurs]
        kernels = {
            scale: [
                sharp_kernel((scale / 2) ** 2 * covariance, amount, self.radius, scale)
                for covariance, amount in zip(covariances, self.amounts, strict=True)
            ]
            for scale in (2, 4)
        }
        middle = kernels[2][self.draws // 2]
        numbers = measure_health(middle, middle)
        numbers |= {name: float(np.median(values[name])) for name in ("residual", "signal")}
        return KernelEstimate(kernels, numbers)


def _group_photos(observations: Mapping[str, Observation]) -> dict[tuple[float, ...], list[str]]:
    """Return names by focal length and size. Groups of fewer than MIN_GROUP photos are one."""
    keys = {name: tuple(item.values["group"]) for name, item in observations.items()}
    counts = Counter(keys.values())
    groups: dict[tuple[float, ...], list[str]] = {}
    for name, key in keys.items():
        groups.setdefault(key if counts[key] >= MIN_GROUP else (), []).append(name)
    return groups


def robust_mean(values: np.ndarray, deviation: float) -> np.ndarray:
    """Return the robust mean over the first axis of values (n, …, 3): Huber's, by iteration.

    deviation: expected standard deviation of each of the three entries. A soft photo looks like a
    wide kernel; such outliers count less.
    """
    mean = np.median(values, axis=0)
    for _ in range(MEAN_STEPS):
        distance = np.linalg.norm(values - mean, axis=-1, keepdims=True) / deviation
        weights = 1 / np.maximum(distance / OUTLIER, 1)
        mean = (weights * values).sum(0) / weights.sum(0)
    return mean


def remove_sharpening(spectrum: Spectrum, amount: float, radius: float) -> Spectrum:
    """Return the spectrum as it was before an unsharp mask, see the module.

    The noise was measured at the highest frequencies, where the mask multiplies it most.
    """
    squares = (spectrum.frequencies**2).sum(0)
    gain = 1 + amount * (1 - np.exp(-2 * np.pi**2 * radius**2 * squares))
    return Spectrum(
        spectrum.log_power - 2 * np.log(gain),
        spectrum.frequencies,
        spectrum.noise / (1 + amount) ** 2,
    )


def sharp_kernel(covariance: np.ndarray, amount: float, radius: float, scale: int) -> Kernel:
    """Return the aligned kernel (8 s + 1, 8 s + 1) of a Gaussian blur and an unsharp mask.

    covariance: of the blur, (2, 2), in HR pixels squared. The mask acts on the LR image with a
    Gaussian of standard deviation `radius` LR pixels, which is s times as wide in HR pixels:

        (1 + a) N(C) - a N(C + s^2 r^2 I)
    """
    size = 8 * scale + 1
    centre = aligned_centre(size, scale)
    wide = covariance + (scale * radius) ** 2 * np.eye(2)
    blur = gaussian_kernel(covariance, size, centre)
    return (1 + amount) * blur - amount * gaussian_kernel(wide, size, centre)


def turn(entries: np.ndarray) -> np.ndarray:
    """Return the entries (3,) of a symmetric 2x2 matrix after a turn by 90 degrees."""
    return np.array([entries[2], -entries[1], entries[0]])
