"""Estimate the kernels of a camera from all its photos, with its sharpening in doubt.

The spectrum of a photo depends on its content as much as on the blur, so the fit of `spectral` errs
by the photo. The photos of a camera share the blur. With x the logarithm of a kernel's covariance,
x_i that of photo i, y_i its estimate from the spectrum, and the camera's mean m:

    x_i = m + N(0, spread^2),   y_i = x_i + error * t(2)

Photos differ in width more than in shape: `spread` is that of the mean of both axes' log variances,
and the other two components of x_i have half of it. The error has Student's distribution, since a
soft scene or a texture misleads by much more than usual. m is the mean of y_i with the weights of
its EM algorithm (Lange, Little and Taylor 1989):

    w_i = (2 + 3) / (2 + |y_i - m|^2 / (spread^2 + error^2))

which make the variance of y_i spread^2 + error^2 / w_i.

Each kernel is a draw from the posterior of x_i given m and y_i, so that the pool has the spread of
the camera, not that of the estimator. The mean of a photo's draws is that of its posterior.

The blur is a Gaussian, a disc or straight motion (spectral.py). One photo rarely shows which;
the zeros of a transform are common to all photos. The shape of a camera is that with the smallest
sum of the costs of its photos' fits, and a Gaussian if it is worse by less than `MARGIN`.

Sharpening in the camera (an unsharp mask of amount a on the LR image) multiplies the spectrum by
|1 + a (1 - exp(-2 pi^2 r^2 |f|^2))|^2. A smaller exponent of the scene's spectrum has nearly the
same effect, so the amount cannot be estimated from spectra (experiments/kernel_recovery). The draws
of a photo have amounts across the range `sharpening` instead. For each amount the blur is fitted to
the spectrum without this sharpening, and the kernel is that blur with the sharpening: it has a
negative ring.
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
from realsr.imaging.kernel_shapes import Kernel, aligned_centre, normalise
from realsr.kernels.estimator import (
    KernelEstimate,
    Observation,
    SourcePhoto,
    measure_health,
)
from realsr.kernels.gaussian import aligned_gaussian
from realsr.kernels.spectral import (
    SHAPES,
    Spectrum,
    SpectrumEstimator,
    fit_spectrum,
    matrix_exponential,
    measure_spectrum,
)

MIN_GROUP = 4  # photos of one focal length and size that have a mean of their own
FREEDOM = 2.0  # degrees of freedom of Student's distribution
COMPONENTS = np.array([1, 0.5, 0.5])  # spread of width and shape in units of `spread`
MEAN_STEPS = 20
EXACT = 1e-12  # cost of the fit to a kernel of the same shape
MARGIN = 5.0  # of the cost, between a Gaussian and another shape


@dataclass(frozen=True)
class Camera(SpectrumEstimator):
    """Kernels of a camera; see the module. For the priors of the fit see `SpectrumEstimator`.

    draws: kernels per photo. sharpening: lowest and highest amount of the unsharp mask. radius: its
    standard deviation, in LR pixels. spread, error: scales of the model above, of the logarithm of
    the covariance; a spread of 0.2 is 10 % of the kernel's width.
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

    def observe_photo(self, photo: SourcePhoto) -> Observation:
        """Fit the blur to a photo's spectrum for each amount; a portrait photo is turned.

        The other shapes are fitted for the middle amount. The change of the log covariance by the
        shape is taken as that of all amounts.
        """
        amounts, draws = np.unique(self.amounts, return_inverse=True)
        middle = len(amounts) // 2
        image, damage = photo.read()
        spectrum = measure_spectrum(image, self.border)
        spectra = [remove_sharpening(spectrum, amount, self.radius) for amount in amounts]
        fits = [fit_spectrum(item, self) for item in spectra]
        start = fits[middle].log_covariance
        fits_by_shape = {"gaussian": fits[middle]}
        for shape in list(SHAPES)[1:]:
            fits_by_shape[shape] = fit_spectrum(spectra[middle], self, shape, start)
        try:
            focal_length = photo.tags.focal_length or 0.0
        except (OSError, ValueError, SyntaxError):
            focal_length = 0.0  # Pillow cannot open the file, or a damaged block
        height, width = image.shape[:2]
        blurs = np.array([fit.log_covariance for fit in fits])[draws]
        values = {
            "fits": turn(blurs) if height > width else blurs,
            "residual": np.array([fit.residual for fit in fits])[draws],
            "signal": np.array([fit.signal for fit in fits])[draws],
            "costs": np.array([fit.cost for fit in fits_by_shape.values()]),
            "portrait": np.array(height > width),
            "group": np.array([focal_length, max(height, width), min(height, width)]),
        }
        for shape, fit in fits_by_shape.items():
            change = fit.log_covariance - start
            values[f"change_{shape}"] = turn(change) if height > width else change
        return Observation(values, damage)

    def estimate(
        self, observations: Mapping[str, Observation], seed: int
    ) -> Mapping[str, KernelEstimate]:
        """Return the draws of each photo."""
        estimates = {}
        for names in _group_photos(observations).values():
            values = [observations[name].values for name in names]
            # Observations of earlier versions have Gaussians only.
            shape = choose_shape(np.array([item["costs"] for item in values if "costs" in item]))
            fits = np.stack([item["fits"] + item.get(f"change_{shape}", 0) for item in values])
            means, deviations = self._pool(fits)
            for name, item, mean, deviation in zip(names, values, means, deviations, strict=True):
                noise = numpy_generator(seed, "kernels", name).standard_normal(mean.shape)
                noise -= noise.mean(0)
                noise *= np.sqrt(self.draws / max(self.draws - 1, 1))
                blurs = mean + join_components(deviation * noise)
                estimates[name] = self._make_estimate(shape, blurs, item)
        return estimates

    def _pool(self, fits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean (n, draws, 3) and the deviation by component of each photo's posterior.

        fits: log covariances (n, draws, 3) of n photos.
        """
        fits = split_components(fits)
        spread = (self.spread * COMPONENTS) ** 2
        mean, weights = robust_mean(fits, spread, self.error**2)
        error = self.error**2 / weights
        gain = spread / (spread + error)
        return join_components(mean + gain * (fits - mean)), np.sqrt(gain * error)

    def derive(self, kernel: Kernel, scale: int) -> Kernel:
        """Return the kernel of the same blur and sharpening for a scale from that for scale 2.

        The kernel determines the covariance and the amount: both are fitted to it.
        """

        width = 2 * np.log(self.width)
        start = np.array([width, 0, width, np.mean(self.sharpening)])
        fits = {}
        for shape in SHAPES:

            def residuals(x: np.ndarray, shape: str = shape) -> np.ndarray:
                model = self._make_kernel(shape, matrix_exponential(x[:3]), x[3], 2)
                return ((model - kernel) / kernel.max()).ravel()

            fits[shape] = optimize.least_squares(
                residuals, start, xtol=1e-14, ftol=1e-14, gtol=1e-14
            )
            start = fits["gaussian"].x
            if fits[shape].cost < EXACT:
                break
        shape = min(fits, key=lambda name: fits[name].cost)
        x = fits[shape].x
        return self._make_kernel(shape, matrix_exponential(x[:3]), x[3], scale)

    def _make_kernel(self, shape: str, covariance: np.ndarray, amount: float, scale: int) -> Kernel:
        """Return the kernel for a scale. covariance: of the x2 kernel, (2, 2)."""
        if shape == "gaussian":
            return sharp_kernel((scale / 2) ** 2 * covariance, amount, self.radius, scale)
        return shaped_kernel(shape, covariance, amount, self.radius, scale)

    def _make_estimate(
        self, shape: str, blurs: np.ndarray, values: Mapping[str, np.ndarray]
    ) -> KernelEstimate:
        """Return the kernels of a photo from its draws (draws, 3), turned back if need be."""
        blurs = turn(blurs) if values["portrait"] else blurs
        kernels = {
            scale: [
                self._make_kernel(shape, matrix_exponential(blur), amount, scale)
                for blur, amount in zip(blurs, self.amounts, strict=True)
            ]
            for scale in (2, 4)
        }
        middle = kernels[2][self.draws // 2]
        numbers = measure_health(middle, middle)
        numbers |= {name: float(np.median(values[name])) for name in ("residual", "signal")}
        return KernelEstimate(kernels, numbers, {"shape": shape})


def _group_photos(observations: Mapping[str, Observation]) -> dict[tuple[float, ...], list[str]]:
    """Return names by focal length and size. Groups of fewer than MIN_GROUP photos are one."""
    keys = {name: tuple(item.values["group"]) for name, item in observations.items()}
    counts = Counter(keys.values())
    groups: dict[tuple[float, ...], list[str]] = {}
    for name, key in keys.items():
        groups.setdefault(key if counts[key] >= MIN_GROUP else (), []).append(name)
    return groups


def choose_shape(costs: np.ndarray) -> str:
    """Return the shape of a camera. costs: of the fits of n photos, (n, len(SHAPES))."""
    totals = costs.reshape(-1, len(SHAPES)).sum(0)
    totals[1:] += MARGIN
    return list(SHAPES)[int(np.argmin(totals))]


def robust_mean(
    values: np.ndarray, spread: np.ndarray, error: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean (…, 3) of values (n, …, 3) and their weights (n, …, 1), see the module.

    spread: variances of the components, (3,). error: variance of the error.
    """
    mean = np.median(values, axis=0)
    for _ in range(MEAN_STEPS):
        distance = ((values - mean) ** 2 / (spread + error)).sum(-1, keepdims=True)
        weights = (FREEDOM + 3) / (FREEDOM + distance)
        precision = 1 / (spread + error / weights)
        mean = (precision * values).sum(0) / precision.sum(0)
    return mean, weights


def split_components(entries: np.ndarray) -> np.ndarray:
    """Return width and shape (…, 3) of log covariances (…, 3) [[a, b], [b, c]].

    They are (a + c) / 2, (a - c) / 2 and b.
    """
    a, b, c = np.moveaxis(entries, -1, 0)
    return np.stack([(a + c) / 2, (a - c) / 2, b], axis=-1)


def join_components(components: np.ndarray) -> np.ndarray:
    """Return the log covariances (…, 3) of width and shape (…, 3); inverse of the above."""
    width, difference, b = np.moveaxis(components, -1, 0)
    return np.stack([width + difference, b, width - difference], axis=-1)


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
    wide = covariance + (scale * radius) ** 2 * np.eye(2)
    blur = aligned_gaussian(covariance, scale)
    return (1 + amount) * blur - amount * aligned_gaussian(wide, scale)


def shaped_kernel(
    shape: str, covariance: np.ndarray, amount: float, radius: float, scale: int
) -> Kernel:
    """Return the aligned kernel (8 s + 1, 8 s + 1) of a blur and an unsharp mask at a scale s.

    covariance: of the x2 kernel, (2, 2). amount, radius: as in `sharp_kernel`. It is the
    inverse Fourier transform on a torus; the frequencies are those of scale 2, h s / 2.
    """
    size, centre = 8 * scale + 1, aligned_centre(8 * scale + 1, scale)
    frequencies = np.fft.fftfreq(4 * size)
    h = np.stack(np.meshgrid(frequencies, frequencies, indexing="ij"))
    mask = 1 + amount * (1 - np.exp(-2 * np.pi**2 * (radius * scale) ** 2 * (h**2).sum(0)))
    factor, form = SHAPES[shape](h * scale / 2, covariance)
    spectrum = factor * np.exp(-2 * np.pi**2 * form) * mask
    spectrum = spectrum * np.exp(-2j * np.pi * centre * h.sum(0))  # moves the kernel to its centre
    return normalise(np.fft.ifft2(spectrum).real[:size, :size])


def turn(entries: np.ndarray) -> np.ndarray:
    """Return the entries (…, 3) of symmetric 2x2 matrices after a turn by 90 degrees."""
    return entries[..., ::-1] * [1, -1, 1]
