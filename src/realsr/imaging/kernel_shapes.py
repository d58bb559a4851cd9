"""Blur kernels: clean-up, alignment, kernels for other scales, comparison, and files.

A kernel is float64 (k, l) and sums to 1. `imaging.apply_kernel` applies it at scale s with index
k//2 on the sample that is kept, so an aligned kernel has its centre of mass at k//2 + (s-1)/2.
"""

import io
import math
from pathlib import Path

import numpy as np
import scipy  # its packages are imported when their attribute is first used, since they take long

from realsr.core.errors import UserError
from realsr.core.files import write_bytes
from realsr.core.mat_variables import MatFileError, list_names, read_variables

Kernel = np.ndarray

_SPLINE_BORDER = 8  # zeros around a kernel, so that the spline ends in zeros
CANVAS = 31  # side on which kernels are compared
SUM_TOLERANCE = 1e-3  # of a kernel that a user's code passes


def normalise(kernel: Kernel) -> Kernel:
    """Return the kernel (k, l) as float64, divided by its sum.

    Raises ValueError unless all values are finite and their sum is finite and positive.
    """
    kernel = np.asarray(kernel, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # such values are refused below
        total = kernel.sum()
        result = kernel / total if total > 0 else kernel
    if not total > 0 or not np.isfinite(total) or not np.isfinite(result).all():
        raise ValueError(
            f"a kernel must have finite values with a positive, finite sum, got sum {total}"
        )
    return result


def check_kernel(kernel: object, text: str) -> None:
    """Raise UserError, which `text` starts, unless a kernel is an array (k, l), finite, of sum 1."""
    needs = "expected a NumPy array (k, l) of finite numbers with sum 1"
    if not isinstance(kernel, np.ndarray):
        raise UserError(f"{text} {type(kernel).__name__}: {needs}")
    if kernel.ndim != 2 or kernel.size == 0 or kernel.dtype.kind not in "iuf":
        raise UserError(f"{text} an array of shape {kernel.shape} and type {kernel.dtype}: {needs}")
    if not np.isfinite(kernel).all():
        raise UserError(f"{text} a kernel with nan or infinite values: {needs}")
    total = float(kernel.sum())
    if abs(total - 1) > SUM_TOLERANCE:
        raise UserError(
            f"{text} a kernel with sum {total:g}: {needs}: divide the kernel by its sum"
        )


def aligned_centre(size: int, scale: int) -> float:
    """Return the position of an aligned kernel's centre of mass: k//2 + (s-1)/2."""
    return size // 2 + (scale - 1) / 2


def moments(kernel: Kernel) -> tuple[np.ndarray, np.ndarray]:
    """Return a kernel's centre of mass (row, column), in pixels, and its covariance (2, 2)."""
    positions = np.mgrid[: kernel.shape[0], : kernel.shape[1]].reshape(2, -1)
    weights = kernel.ravel() / kernel.sum()
    mean = positions @ weights
    offsets = positions - mean[:, None]
    return mean, (offsets * weights) @ offsets.T


def filter_small(kernel: Kernel) -> Kernel:
    """Remove small values: subtract 0.75 x the 41st largest value, clip at 0, normalise."""
    threshold = 0.75 * np.sort(kernel, axis=None)[-41]
    return normalise(np.clip(kernel - threshold, 0, None))


def align(kernel: Kernel, scale: int = 2) -> Kernel:
    """Pad and shift (cubic spline) a kernel so that its centre of mass is aligned for `scale`.

    The sum may change by 1e-4.
    """
    target = np.array([aligned_centre(size, scale) for size in kernel.shape])
    shift = target - np.array(scipy.ndimage.center_of_mass(kernel))
    padding = math.ceil(np.abs(shift).max()) + 1
    return scipy.ndimage.shift(np.pad(kernel, padding), shift, order=3)


def postprocess(kernel: Kernel) -> Kernel:
    """Return the final x2 kernel from an estimate: filtered, aligned, normalised."""
    return normalise(align(filter_small(np.asarray(kernel, dtype=np.float64))))


def compose_x4(kernel: Kernel, crop: bool = True) -> Kernel:
    """Return the x4 kernel that equals applying the x2 kernel k at scale 2 twice.

    sum over r, c of k[r, c] * k placed at (2r, 2c), borders of k//2 cropped, normalised
    (Bell-Kligler et al. 2019, the analytic x4 kernel).

    Each side k becomes 3k - 2 - 2 (k//2), or 3k - 2 without the crop. Uncropped, no value is lost,
    and an aligned kernel of odd size gives an exactly aligned kernel.
    """
    return _compose(kernel, kernel, 2, crop)


def compose_x8(kernel: Kernel, crop: bool = True) -> Kernel:
    """Return the x8 kernel that equals applying the x2 kernel k at scale 2 three times.

    The rule of `compose_x4` applied again, with k4 the x4 kernel: sum over r, c of k[r, c] * k4
    placed at (4r, 4c) of the x8 grid, borders of k4//2 cropped, normalised.
    """
    return _compose(compose_x4(kernel, crop), kernel, 4, crop)


def _compose(first: Kernel, second: Kernel, scale: int, crop: bool) -> Kernel:
    """Return the kernel that equals applying `first` at `scale`, then `second`."""
    spread = np.zeros([scale * (side - 1) + 1 for side in second.shape])
    spread[::scale, ::scale] = second
    height, width = first.shape
    full = np.zeros((spread.shape[0] + height - 1, spread.shape[1] + width - 1))
    for (row, column), value in np.ndenumerate(first):
        full[row : row + spread.shape[0], column : column + spread.shape[1]] += value * spread
    rows, columns = (height // 2, width // 2) if crop else (0, 0)
    return normalise(full[rows : full.shape[0] - rows, columns : full.shape[1] - columns])


def rescale(kernel: Kernel, scale: int) -> Kernel:
    """Return the aligned kernel for a scale s whose blur in LR pixels is that of an x2 kernel.

    An LR pixel is 2 pixels of the x2 kernel wide and s pixels of the result. The x2 kernel is
    therefore interpolated (cubic spline) at steps of 2/s of its pixels, which makes the covariance
    (s/2)^2 times as large. The result is clipped at 0, aligned and normalised.
    """
    sizes = [2 * math.ceil((scale * (side // 2) + 1) / 2) + 1 for side in kernel.shape]
    positions = [
        (np.arange(size) - aligned_centre(size, scale)) * 2 / scale + aligned_centre(side, 2)
        for side, size in zip(kernel.shape, sizes, strict=True)
    ]
    padded = np.pad(kernel, _SPLINE_BORDER)
    grid = np.array(np.meshgrid(*positions, indexing="ij")) + _SPLINE_BORDER
    return normalise(
        align(np.clip(scipy.ndimage.map_coordinates(padded, grid, order=3), 0, None), scale)
    )


def save_kernel(path: Path, kernel: Kernel, sync: bool = True) -> None:
    """Write the normalised kernel as variable `Kernel` of a MATLAB 5 file; see `replace_file`."""
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"Kernel": normalise(kernel)})
    # SciPy writes the time into the header; it is replaced so that equal kernels give equal files.
    write_bytes(path, b"MATLAB 5.0 MAT-file, realsr".ljust(116) + buffer.getvalue()[116:], sync)


def load_kernel(path: Path) -> Kernel:
    """Return the normalised kernel of a .mat file, float64. Raises UserError as `read_kernel`."""
    return normalise(read_kernel(path))


def read_kernel(path: Path) -> Kernel:
    """Return the kernel (k, l) in the variable `Kernel` of a .mat file, float64, not normalised.

    Raises UserError for another kind of file, and if the variable is missing or is not a kernel.
    """
    try:
        content = read_variables(path)
    except MatFileError as error:
        raise UserError(f"{path}: {error}; remove it or estimate it again") from error
    if "Kernel" not in content:
        raise UserError(
            f"{path}: has no variable `Kernel`, it holds {list_names(content)}; save the kernel "
            "under that name"
        )
    kernel = content["Kernel"]
    if not isinstance(kernel, np.ndarray):
        raise UserError(f"{path}: `Kernel` is {type(kernel).__name__}; expected a 2-D array")
    if kernel.ndim != 2 or kernel.dtype.kind not in "biuf":
        raise UserError(
            f"{path}: `Kernel` is {kernel.dtype} of shape {kernel.shape}; expected a 2-D array of "
            "numbers"
        )
    try:
        normalise(kernel)
    except ValueError as error:
        raise UserError(f"{path}: `Kernel` cannot be normalised: {error}") from error
    return kernel.astype(np.float64)


def kernel_psnr(true: Kernel, estimate: Kernel) -> float:
    """Return the PSNR of a kernel estimate in dB, with the true kernel's maximum as peak.

    Both kernels are normalised, placed on a canvas of 31x31 and shifted (linear
    interpolation) to a common centre of mass, since a shift of the whole kernel is not an error of
    its shape.
    """
    peak = _centre(true).max()
    with np.errstate(divide="ignore"):  # the PSNR of equal kernels is infinite
        return float(10 * np.log10(peak**2 / kernel_distance(true, estimate)))


def kernel_distance(first: Kernel, second: Kernel) -> float:
    """Return the mean squared difference of two kernels, placed as in `kernel_psnr`."""
    return float(np.mean((_centre(first) - _centre(second)) ** 2))


def _centre(kernel: Kernel) -> Kernel:
    rows, columns = kernel.shape
    canvas = np.zeros((max(CANVAS, rows), max(CANVAS, columns)))
    top, start = (canvas.shape[0] - rows) // 2, (canvas.shape[1] - columns) // 2
    canvas[top : top + rows, start : start + columns] = normalise(kernel)
    middle = np.array(canvas.shape) // 2
    canvas = scipy.ndimage.shift(
        canvas, middle - np.array(scipy.ndimage.center_of_mass(canvas)), order=1
    )
    half = CANVAS // 2
    return canvas[middle[0] - half : middle[0] + half + 1, middle[1] - half : middle[1] + half + 1]
