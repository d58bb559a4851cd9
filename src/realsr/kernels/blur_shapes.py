"""Shapes of a blur that its covariance determines: a Gaussian, a defocus disc, straight motion.

With h a frequency in cycles per pixel of scale 2, S the covariance of the x2 kernel, l1 >= l2 its
eigenvalues and u the eigenvector of l1, the Fourier transforms of the kernels are (Goodman,
Introduction to Fourier Optics, 2005, for the disc)

    gaussian    exp(-2 pi^2 h' S h)
    disc        2 J1(z) / z * exp(-2 pi^2 A |h|^2),   z = 4 pi sqrt(h' (S - A I) h)
    motion      sinc(L u' h) * exp(-2 pi^2 l2 |h|^2),   L^2 / 12 = l1 - l2

A disc of radius R has S = (R^2 / 4 + A) I. It may be an ellipse, as near the border of a photo.
A = 1/3 is the variance of an LR pixel's square, which softens its rim.
"""

from collections.abc import Callable, Mapping

import numpy as np
import scipy

from realsr.imaging.kernel_shapes import Kernel, aligned_centre, normalise

Transfer = Callable[[np.ndarray, np.ndarray], np.ndarray]

PIXEL = 1 / 3  # variance of a square of two pixels, s^2 / 12


def transform_gaussian(h: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Return the Fourier transform (…) of a Gaussian at the frequencies h (2, …)."""
    (a, b), (_, d) = covariance
    return np.exp(-2 * np.pi**2 * (a * h[0] ** 2 + 2 * b * h[0] * h[1] + d * h[1] ** 2))


def transform_disc(h: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Return the Fourier transform (…) of an elliptic disc at the frequencies h (2, …).

    It is that of a Gaussian in a direction in which the covariance is less than the square's.
    """
    (a, b), (_, d) = covariance
    form = a * h[0] ** 2 + 2 * b * h[0] * h[1] + d * h[1] ** 2
    sharp = np.maximum(form - PIXEL * (h**2).sum(0), 0)
    z = np.maximum(4 * np.pi * np.sqrt(sharp), 1e-6)
    disc: np.ndarray = 2 * scipy.special.j1(z) / z * np.exp(-2 * np.pi**2 * (form - sharp))
    return disc


def transform_motion(h: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Return the Fourier transform (…) of straight motion at the frequencies h (2, …)."""
    (short, long), axes = np.linalg.eigh(covariance)
    along = np.sqrt(12 * (long - short)) * (axes[0, 1] * h[0] + axes[1, 1] * h[1])
    return np.sinc(along) * np.exp(-2 * np.pi**2 * short * (h**2).sum(0))


SHAPES: Mapping[str, Transfer] = {
    "gaussian": transform_gaussian,
    "disc": transform_disc,
    "motion": transform_motion,
}


def shaped_kernel(
    shape: str, covariance: np.ndarray, amount: float, radius: float, scale: int
) -> Kernel:
    """Return the aligned kernel (8 s + 1, 8 s + 1) of a blur and an unsharp mask at a scale s.

    covariance: of the x2 kernel, (2, 2). amount, radius: as in `camera.sharp_kernel`. It is the
    inverse Fourier transform on a torus; the frequencies are those of scale 2, h s / 2.
    """
    size, centre = 8 * scale + 1, aligned_centre(8 * scale + 1, scale)
    frequencies = np.fft.fftfreq(4 * size)
    h = np.stack(np.meshgrid(frequencies, frequencies, indexing="ij"))
    mask = 1 + amount * (1 - np.exp(-2 * np.pi**2 * (radius * scale) ** 2 * (h**2).sum(0)))
    spectrum = SHAPES[shape](h * scale / 2, covariance) * mask
    shifted = spectrum * np.exp(-2j * np.pi * centre * h.sum(0))
    return normalise(np.fft.ifft2(shifted).real[:size, :size])
