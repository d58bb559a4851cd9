"""What a pool holds, in numbers: what its kernels do to detail, and what its noise is like."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from realsr.core.errors import UserError
from realsr.core.file_names import resolve_unnamed
from realsr.core.progress import Progress
from realsr.imaging import ImageError, read_uint8, resize
from realsr.imaging.kernel_shapes import Kernel, aligned_centre, moments, normalise, read_kernel
from realsr.pools.contents import list_pool_files

BINS = 32  # of the radial averages, from frequency 0 to 1/2 cycle a pixel
FREQUENCIES = (np.arange(BINS) + 0.5) / (2 * BINS)
KERNEL_CANVAS = 64
LAGS = 8


@dataclass(frozen=True)
class KernelMoments:
    """A kernel's sum as stored, and its position and width in pixels of HR.

    offset: of the centre of mass from that of an aligned kernel, (rows, columns). spread: standard deviations along
    the long and the short axis. angle: of the long axis, degrees counter-clockwise from the right, 0..180.
    """

    sum: float
    offset: tuple[float, float]
    spread: tuple[float, float]
    angle: float


@dataclass(frozen=True)
class KernelStatistics:
    """The kernels of one scale by name, their moments, and their spectra.

    spectra: (kernels, BINS), |FFT| radially averaged at FREQUENCIES, 1 at frequency 0.
    """

    kernels: dict[str, Kernel]
    moments: dict[str, KernelMoments]
    spectra: np.ndarray

    @property
    def spectrum(self) -> np.ndarray:
        """The mean of the spectra: (BINS,)."""
        return self.spectra.mean(axis=0)


@dataclass(frozen=True)
class NoiseStatistics:
    """The noise of a pool's patches, each less its mean per channel, in 8-bit levels.

    levels: (patches, 3) standard deviations per channel. colour_correlation: (3, 3), of R, G, B at one pixel.
    autocorrelation: (2, LAGS + 1), down and to the right, at lags of 0, 1, 2, … pixels, mean of the channels.
    spectrum: (BINS,) power at FREQUENCIES as a multiple of that of white noise of the same level.
    """

    levels: np.ndarray
    colour_correlation: np.ndarray
    autocorrelation: np.ndarray
    spectrum: np.ndarray

    @property
    def level(self) -> np.ndarray:
        """The root mean square of the patches' levels: (3,)."""
        return np.sqrt((self.levels**2).mean(axis=0))


@dataclass(frozen=True)
class PoolStatistics:
    """Kernels by scale, noise and the files it was measured on, and the error messages of unreadable files."""

    folder: Path
    kernels: dict[int, KernelStatistics]
    noise: NoiseStatistics | None
    patches: list[Path]
    unreadable: list[str]


def measure_pool(folder: Path) -> PoolStatistics:
    """Measure all kernels and noise patches of a pool. Raises UserError where it has neither."""
    folder = resolve_unnamed(folder)
    unreadable: dict[Path, str] = {}
    kernels = {}
    for scale in (2, 4):
        files = [
            path
            for path in list_pool_files(folder / "kernels", ".mat")
            if path.stem.endswith(f"_x{scale}")
        ]
        names = {
            path: path.relative_to(folder / "kernels").as_posix().rpartition("_x")[0]
            for path in files
        }
        readable = {
            names[path].removesuffix("_kernel"): kernel
            for path, kernel in _read(files, read_kernel, unreadable)
        }
        if readable:
            kernels[scale] = measure_kernels(readable, scale)
    files = list_pool_files(folder / "noise", ".png")
    noise = None
    if files:
        with Progress(f"noise of {folder.name}", total=len(files)) as progress:
            noise = measure_noise(
                patch for _, patch in _read(files, read_uint8, unreadable, progress)
            )
    if not kernels and noise is None:
        raise UserError(
            f"{folder}: neither kernels (kernels/*_x2.mat, *_x4.mat) nor noise patches (noise/*.png) in it"
            + "".join(f"\n  {reason}" for reason in unreadable.values())
        )
    patches = [path for path in files if path not in unreadable]
    return PoolStatistics(folder, kernels, noise, patches, list(unreadable.values()))


def _read(
    files: Iterable[Path],
    read: Callable[[Path], np.ndarray],
    unreadable: dict[Path, str],
    progress: Progress | None = None,
) -> Iterator[tuple[Path, np.ndarray]]:
    for path in files:
        try:
            content = read(path)
        except (UserError, ImageError) as error:
            unreadable[path] = str(error)
            continue
        yield path, content
        if progress:
            progress.advance()


def measure_kernels(kernels: dict[str, Kernel], scale: int) -> KernelStatistics:
    """Measure kernels (name -> (h, w), any size) that belong to a scale."""
    moments = {name: kernel_moments(kernel, scale) for name, kernel in kernels.items()}
    return KernelStatistics(
        kernels, moments, np.stack([kernel_spectrum(kernel) for kernel in kernels.values()])
    )


def kernel_moments(kernel: Kernel, scale: int) -> KernelMoments:
    """Return the first and second moments of a kernel (h, w)."""
    mean, covariance = moments(kernel)
    variances, axes = np.linalg.eigh(covariance)
    short, long = np.sqrt(variances.clip(min=0))
    row, column = axes[:, 1]
    down, right = mean - [aligned_centre(side, scale) for side in kernel.shape]
    return KernelMoments(
        sum=float(kernel.sum()),
        offset=(float(down), float(right)),
        spread=(float(long), float(short)),
        angle=float(np.degrees(np.arctan2(-row, column)) % 180),
    )


def bicubic_kernel(scale: int) -> Kernel:
    """Return the kernel (64, 64) that bicubic downscaling correlates with, to compare a pool's kernels with."""
    weights = resize(torch.eye(64, dtype=torch.float64), size=(64 // scale, 64))[
        32 // scale
    ].numpy()
    return np.outer(weights, weights)


def kernel_spectrum(kernel: Kernel) -> np.ndarray:
    """Return |FFT| of a kernel, radially averaged at FREQUENCIES: (BINS,)."""
    canvas = max(KERNEL_CANVAS, *kernel.shape)
    return _radial_mean(np.abs(np.fft.fft2(normalise(kernel), (canvas, canvas))))


def measure_noise(patches_uint8: Iterable[np.ndarray]) -> NoiseStatistics | None:
    """Measure noise patches (h, w, 3), of any sizes, with equal weights; None where there are none."""
    levels, covariances, autocovariances, spectra, energies = [], [], [], [], []
    for patch_uint8 in patches_uint8:
        patch = patch_uint8.astype(np.float64)
        patch -= patch.mean(axis=(0, 1))
        flat = patch.reshape(-1, 3)
        covariances.append(flat.T @ flat / len(flat))
        levels.append(np.sqrt(np.diag(covariances[-1])))
        autocovariances.append([_autocovariance(patch), _autocovariance(patch.swapaxes(0, 1))])
        # The window removes the step between opposite edges, which would look like detail.
        patch *= np.outer(*(np.hanning(side + 2)[1:-1] for side in patch.shape[:2]))[..., None]
        spectra.append(_radial_mean((np.abs(np.fft.fft2(patch, axes=(0, 1))) ** 2).sum(axis=2)))
        energies.append(
            (patch**2).sum()
        )  # by Parseval's theorem the mean of the power over all frequencies
    if not levels:
        return None
    covariance, autocovariance = np.mean(covariances, axis=0), np.mean(autocovariances, axis=0)
    deviation = np.sqrt(np.diag(covariance)).clip(min=1e-12)
    return NoiseStatistics(
        levels=np.array(levels),
        colour_correlation=covariance / np.outer(deviation, deviation),
        autocorrelation=autocovariance / autocovariance[:, :1].clip(min=1e-12),
        spectrum=np.mean(spectra, axis=0) / max(np.mean(energies), 1e-12),
    )


def _autocovariance(patch: np.ndarray) -> np.ndarray:
    """Return the covariance of a patch (h, w, 3) and itself shifted down by 0..LAGS pixels; 0 where it is too small."""
    height = len(patch)
    return np.array(
        [
            (patch[: height - lag] * patch[lag:]).mean() if lag < height else 0.0
            for lag in range(LAGS + 1)
        ]
    )


def _radial_mean(spectrum: np.ndarray) -> np.ndarray:
    """Average a spectrum (h, w), 0 in its corner, over rings around FREQUENCIES: (BINS,).

    Frequencies above 1/2 are left out; a ring without samples is interpolated from its neighbours.
    """
    rows, columns = (np.fft.fftfreq(side) for side in spectrum.shape)
    radii = np.hypot(rows[:, None], columns)
    ring = np.floor(radii * 2 * BINS).astype(int)
    inside = ring < BINS
    counts = np.bincount(ring[inside], minlength=BINS)
    filled = counts > 0
    means, places = (
        np.bincount(ring[inside], weights=values[inside], minlength=BINS)[filled] / counts[filled]
        for values in (spectrum, radii)
    )
    return np.interp(
        FREQUENCIES, places, means
    )  # samples of a ring do not lie evenly about its middle
