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

Shape = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray | float, np.ndarray]]
"""Returns F and g (…) of the transform F(h) exp(-2 pi^2 g(h)), for frequencies h (2, …) and S."""

PIXEL = 1 / 3  # variance of a square of two pixels, s^2 / 12


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
    return 2 * scipy.special.j1(z) / z, form - sharp


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
    factor, form = SHAPES[shape](h * scale / 2, covariance)
    spectrum = factor * np.exp(-2 * np.pi**2 * form) * mask
    spectrum = spectrum * np.exp(-2j * np.pi * centre * h.sum(0))  # moves the kernel to its centre
    return normalise(np.fft.ifft2(spectrum).real[:size, :size])
