"""What is done to a blur kernel: clean-up, alignment, the x4 kernel, and its file.

A kernel is float64 (k, l) and sums to 1. At scale s it is applied with `imaging.apply_kernel`: its index k//2
lies on the kept sample, so an aligned kernel has its centre of mass at k//2 + (s-1)/2.
"""

import io
import math
from pathlib import Path

import numpy as np
from scipy import io as matlab
from scipy import ndimage

from realsr.core.errors import UserError
from realsr.core.files import write_bytes
from realsr.core.mat_variables import MatFileError, list_names, read_variables

Kernel = np.ndarray


def normalise(kernel: Kernel) -> Kernel:
    """Return the kernel (k, l) as float64, divided by its sum.

    Raises ValueError where the sum is not a positive number.
    """
    kernel = np.asarray(kernel, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # of values that are refused below
        total = kernel.sum()
        normalised = kernel / total if total > 0 else kernel
    if not total > 0 or not np.isfinite(total) or not np.isfinite(normalised).all():
        raise ValueError(
            f"a kernel must have finite values of a positive, finite sum, got sum {total}"
        )
    return normalised


def aligned_centre(size: int, scale: int) -> float:
    """Return where the centre of mass of an aligned kernel lies: k//2 + (s-1)/2."""
    return size // 2 + (scale - 1) / 2


def moments(kernel: Kernel) -> tuple[np.ndarray, np.ndarray]:
    """Return a kernel's centre of mass (row, column) and the covariance (2, 2) of its mass, in pixels and squared."""
    positions = np.mgrid[: kernel.shape[0], : kernel.shape[1]].reshape(2, -1)
    weights = kernel.ravel() / kernel.sum()
    mean = positions @ weights
    centred = positions - mean[:, None]
    return mean, (centred * weights) @ centred.T


def filter_small(kernel: Kernel, keep: int = 40) -> Kernel:
    """Remove small values: subtract 0.75 x the (keep+1)-th largest value, clip at 0, normalise."""
    threshold = 0.75 * np.sort(kernel, axis=None)[-keep - 1]
    return normalise(np.clip(kernel - threshold, 0, None))


def align(kernel: Kernel, scale: int = 2) -> Kernel:
    """Pad and shift (cubic spline) so that the centre of mass is aligned for `scale`; the sum may move by 1e-4."""
    target = np.array([aligned_centre(size, scale) for size in kernel.shape])
    shift = target - np.array(ndimage.center_of_mass(kernel))
    padding = math.ceil(np.abs(shift).max()) + 1
    return ndimage.shift(np.pad(kernel, padding), shift, order=3)


def postprocess(kernel: Kernel) -> Kernel:
    """Turn a raw x2 kernel into the one that is saved: filter, align, normalise."""
    return normalise(align(filter_small(np.asarray(kernel, dtype=np.float64))))


def compose_x4(kernel: Kernel, crop: bool = True) -> Kernel:
    """Return the x4 kernel of which the x2 kernel k is the root: blur and halve, twice.

    sum over r, c of k[r, c] * k placed at (2r, 2c), borders of k//2 cropped, normalised
    (Bell-Kligler et al. 2019, the analytic x4 kernel). (k, k) -> (3k - 2 - 2 (k//2), the same), or uncropped
    (3k - 2, the same): nothing is lost, and an odd aligned k gives an aligned kernel exactly.
    """
    height, width = kernel.shape
    spread = np.zeros((2 * height - 1, 2 * width - 1))
    spread[::2, ::2] = kernel
    full = np.zeros((3 * height - 2, 3 * width - 2))
    for (row, column), value in np.ndenumerate(kernel):
        full[row : row + spread.shape[0], column : column + spread.shape[1]] += value * spread
    rows, columns = (height // 2, width // 2) if crop else (0, 0)
    return normalise(full[rows : full.shape[0] - rows, columns : full.shape[1] - columns])


def save_kernel(path: Path, kernel: Kernel, sync: bool = True) -> None:
    """Write the kernel, normalised, under the key `Kernel` of a MATLAB 5 file, as `core.files.replace_file` does."""
    buffer = io.BytesIO()
    matlab.savemat(buffer, {"Kernel": normalise(kernel)})
    # scipy writes the time into the header's text: equal kernels shall be equal files.
    write_bytes(path, b"MATLAB 5.0 MAT-file, realsr".ljust(116) + buffer.getvalue()[116:], sync)


def load_kernel(path: Path) -> Kernel:
    """Read the kernel under the key `Kernel` of a .mat file, float64, and normalise it; raises as `read_kernel`."""
    return normalise(read_kernel(path))


def read_kernel(path: Path) -> Kernel:
    """Read the kernel (k, l) under the key `Kernel` of a .mat file as it is there.

    Raises UserError where the file is not one, has no such key, or holds no kernel.
    """
    try:
        content = read_variables(path)
    except MatFileError as error:
        raise UserError(f"{path}: {error}; remove it or estimate it again") from error
    if "Kernel" not in content:
        raise UserError(
            f"{path}: no variable `Kernel` in it, it holds {list_names(content)}; save the kernel under that name"
        )
    kernel = content["Kernel"]
    if not isinstance(kernel, np.ndarray) or kernel.ndim != 2 or kernel.dtype.kind not in "biuf":
        kind = (
            f"{kernel.dtype} of shape {kernel.shape}"
            if isinstance(kernel, np.ndarray)
            else type(kernel).__name__
        )
        raise UserError(f"{path}: `Kernel` is no 2-D kernel, it holds {kind}")
    try:
        normalise(kernel)
    except ValueError as error:
        raise UserError(f"{path}: `Kernel` is no 2-D kernel of sum 1: {error}") from error
    return kernel.astype(np.float64)


def kernel_psnr(true: Kernel, estimate: Kernel, size: int = 31) -> float:
    """Return how near an estimate is to the true kernel, in dB, the true kernel's maximum as peak.

    Both are normalised, placed on a size x size canvas and shifted (linear) so that their centres of mass meet,
    since a whole shift of the kernel is no error of its shape.
    """
    peak = _centred(true, size).max()
    with np.errstate(divide="ignore"):  # equal kernels are infinitely near
        return float(10 * np.log10(peak**2 / kernel_distance(true, estimate, size)))


def kernel_distance(first: Kernel, second: Kernel, size: int = 31) -> float:
    """Return the mean square difference of two kernels, placed as by `kernel_psnr`."""
    return float(np.mean((_centred(first, size) - _centred(second, size)) ** 2))


def _centred(kernel: Kernel, size: int) -> Kernel:
    canvas = np.zeros((max(size, kernel.shape[0]), max(size, kernel.shape[1])))
    top, left = (
        (outer - inner) // 2 for outer, inner in zip(canvas.shape, kernel.shape, strict=True)
    )
    canvas[top : top + kernel.shape[0], left : left + kernel.shape[1]] = normalise(kernel)
    middle = np.array(canvas.shape) // 2
    canvas = ndimage.shift(canvas, middle - np.array(ndimage.center_of_mass(canvas)), order=1)
    half = size // 2
    return canvas[middle[0] - half : middle[0] + half + 1, middle[1] - half : middle[1] + half + 1]
