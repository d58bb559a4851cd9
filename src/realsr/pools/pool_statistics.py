"""Statistics of a pool: moments and spectra of its kernels, level and correlation of its noise."""

import re
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

BINS = 32  # of radial averages, from 0 to 1/2 cycles per pixel
FREQUENCIES = (np.arange(BINS) + 0.5) / (2 * BINS)
KERNEL_CANVAS = 64
LAGS = 8


@dataclass(frozen=True)
class KernelMoments:
    """A kernel's sum as stored, and its position and width in HR pixels.

    offset: of the centre of mass from that of an aligned kernel, (rows, columns).
    spread: standard deviations along the long and the short axis.
    angle: of the long axis, in degrees counter-clockwise from the right, 0..180.
    """

    sum: float
    offset: tuple[float, float]
    spread: tuple[float, float]
    angle: float


@dataclass(frozen=True)
class KernelStatistics:
    """The kernels of one scale by name, their moments and their spectra.

    spectra: (kernels, BINS), radial mean of |FFT| at FREQUENCIES, 1 at frequency 0.
    """

    kernels: dict[str, Kernel]
    moments: dict[str, KernelMoments]
    spectra: np.ndarray

    @property
    def spectrum(self) -> np.ndarray:
        """Mean of the spectra: (BINS,)."""
        return self.spectra.mean(axis=0)


@dataclass(frozen=True)
class NoiseStatistics:
    """The noise of a pool's patches, each minus its mean per channel, in 8-bit levels.

    levels: (patches, 3), standard deviations per channel.
    colour_correlation: (3, 3), of R, G and B at the same pixel.
    autocorrelation: (2, LAGS + 1), vertical and horizontal, at lags of 0, 1, 2, … pixels, averaged
    over the channels.
    spectrum: (BINS,), power at FREQUENCIES relative to white noise of the same level.
    """

    levels: np.ndarray
    colour_correlation: np.ndarray
    autocorrelation: np.ndarray
    spectrum: np.ndarray

    @property
    def level(self) -> np.ndarray:
        """Root mean square of the patches' levels: (3,)."""
        return np.sqrt((self.levels**2).mean(axis=0))


@dataclass(frozen=True)
class PoolStatistics:
    """Statistics of a pool: kernels by scale, and noise, None if there is none.

    patches: files of the noise patches. unreadable: error messages of files that cannot be read.
    """

    folder: Path
    kernels: dict[int, KernelStatistics]
    noise: NoiseStatistics | None
    patches: list[Path]
    unreadable: list[str]


def measure_pool(folder: Path) -> PoolStatistics:
    """Measure all kernels and noise patches of a pool. Raises UserError if it has neither."""
    folder = resolve_unnamed(folder)
    unreadable: dict[Path, str] = {}
    files = [
        path
        for path in list_pool_files(folder / "kernels", ".mat")
        if re.search(r"_x\d+$", path.stem)
    ]
    kernels: dict[int, dict[str, Kernel]] = {}
    for path, kernel in _read(files, read_kernel, unreadable):
        stem, _, scale = path.relative_to(folder / "kernels").as_posix()[:-4].rpartition("_x")
        kernels.setdefault(int(scale), {})[stem.removesuffix("_kernel")] = kernel
    statistics = {scale: measure_kernels(kernels[scale], scale) for scale in sorted(kernels)}
    patches = list_pool_files(folder / "noise", ".png")
    noise = None
    if patches:
        with Progress(f"noise of {folder.name}", total=len(patches)) as progress:
            contents = _read(patches, read_uint8, unreadable, progress)
            noise = measure_noise(patch for _, patch in contents)
    if not kernels and noise is None:
        reasons = "".join(f"\n  {reason}" for reason in unreadable.values())
        raise UserError(
            f"{folder}: has neither kernels (kernels/*_x2.mat, *_x4.mat, …) "
            f"nor noise patches (noise/*.png){reasons}"
        )
    patches = [path for path in patches if path not in unreadable]
    return PoolStatistics(folder, statistics, noise, patches, list(unreadable.values()))


def _read(
    files: Iterable[Path],
    read: Callable[[Path], np.ndarray],
    unreadable: dict[Path, str],
    progress: Progress | None = None,
) -> Iterator[tuple[Path, np.ndarray]]:
    """Yield the files and their contents; note the errors of those that cannot be read."""
    for path in files:
        try:
            yield path, read(path)
        except (UserError, ImageError) as error:
            unreadable[path] = str(error)
        if progress:
            progress.advance()


def measure_kernels(kernels: dict[str, Kernel], scale: int) -> KernelStatistics:
    """Measure kernels of a scale, by name, each (h, w) of any size."""
    moments = {name: kernel_moments(kernel, scale) for name, kernel in kernels.items()}
    spectra = np.stack([kernel_spectrum(kernel) for kernel in kernels.values()])
    return KernelStatistics(kernels, moments, spectra)


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
    """Return the kernel of bicubic downscaling, as a reference for a pool's kernels.

    Its side is the largest multiple of the scale up to 64.
    """
    count = 64 // scale
    rows = resize(torch.eye(count * scale, dtype=torch.float64), size=(count, count * scale))
    weights = rows[count // 2].numpy()
    return np.outer(weights, weights)


def kernel_spectrum(kernel: Kernel) -> np.ndarray:
    """Return the radial mean of |FFT| of a kernel at FREQUENCIES: (BINS,)."""
    canvas = max(KERNEL_CANVAS, *kernel.shape)
    return _radial_mean(np.abs(np.fft.fft2(normalise(kernel), (canvas, canvas))))


def measure_noise(patches_uint8: Iterable[np.ndarray]) -> NoiseStatistics | None:
    """Measure noise patches (h, w, 3) of any sizes, with equal weights. None if there are none."""
    levels, covariances, autocovariances, spectra, energies = [], [], [], [], []
    for patch_uint8 in patches_uint8:
        patch = patch_uint8.astype(np.float64)
        patch -= patch.mean(axis=(0, 1))
        flat = patch.reshape(-1, 3)
        covariances.append(flat.T @ flat / len(flat))
        levels.append(np.sqrt(np.diag(covariances[-1])))
        autocovariances.append([_autocovariance(patch), _autocovariance(patch.swapaxes(0, 1))])
        # The window suppresses the discontinuity between opposite edges, which would leak power.
        patch *= np.outer(*(np.hanning(side + 2)[1:-1] for side in patch.shape[:2]))[..., None]
        spectra.append(_radial_mean((np.abs(np.fft.fft2(patch, axes=(0, 1))) ** 2).sum(axis=2)))
        energies.append((patch**2).sum())  # the power's mean over all frequencies (Parseval)
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
    """Return the autocovariance of a patch (h, w, 3) at vertical shifts of 0..LAGS pixels.

    It is 0 for shifts of h and more.
    """
    shifts = range(min(LAGS + 1, len(patch)))
    covariances = [(patch[: len(patch) - shift] * patch[shift:]).mean() for shift in shifts]
    return np.pad(covariances, (0, LAGS + 1 - len(covariances)))


def _radial_mean(spectrum: np.ndarray) -> np.ndarray:
    """Average a spectrum (h, w) over rings around FREQUENCIES: (BINS,).

    Frequency 0 is at index (0, 0). Frequencies above 1/2 are ignored. Empty rings are interpolated.
    """
    rows, columns = (np.fft.fftfreq(side) for side in spectrum.shape)
    radii = np.hypot(rows[:, None], columns)
    ring = np.floor(radii * 2 * BINS).astype(int)
    inside = ring < BINS
    counts = np.bincount(ring[inside], minlength=BINS)
    nonempty = counts > 0
    means, mean_radii = (
        np.bincount(ring[inside], weights=values[inside], minlength=BINS)[nonempty]
        / counts[nonempty]
        for values in (spectrum, radii)
    )
    # The mean radius of a ring's samples is not the ring's centre.
    return np.interp(FREQUENCIES, mean_radii, means)
