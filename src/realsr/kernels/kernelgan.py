"""The KernelGAN estimator: one small GAN per photo, trained on that photo alone, in batches.

The training crops are drawn with probability proportional to local gradient strength.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import combinations
from typing import Annotated, Literal

import numpy as np
import torch
from scipy import ndimage

from realsr.core.devices import choose_device
from realsr.core.errors import UserError
from realsr.core.machine import free_memory
from realsr.core.ranges import Range
from realsr.core.seeding import derive_seed, numpy_generator
from realsr.imaging import ImageError, resize
from realsr.imaging.kernel_shapes import (
    Kernel,
    compose_x4,
    compose_x8,
    kernel_distance,
    kernel_psnr,
    normalise,
    postprocess,
    rescale,
)
from realsr.kernels.estimator import (
    HEALTH,
    Advance,
    Batch,
    KernelEstimate,
    KernelEstimator,
    NoKernelError,
    Observation,
    SourcePhoto,
    check_photo_size,
    measure_health,
)
from realsr.kernels.kernelgan_networks import D_CROP, G_CROP
from realsr.kernels.kernelgan_training import KernelGANConfig, Photo, train_kernelgans
from realsr.kernels.spectral import Spectral, fit_photo

MAX_BATCH = 32
DEFAULT_BATCH = 8  # if the free memory is unknown
ENTRY_BYTES = 15 * 2**20  # networks, optimiser states and activations of one estimate
LOSSES = ("generator", "discriminator", "bicubic")
PERCENTILE_PIXELS = 1_000_000  # pixels of a large photo from which the percentile is computed
MIN_SUM = 0.1  # of a raw kernel; the sum is near 0 if training diverged
# A photo has detail if a spectral fit with these values gives at least MIN_SIGNAL as its share of
# signal. White noise has at most 0.006, the noisiest photos 0.02.
DETAIL_FIT = Spectral(
    border=0,
    exponent=2.7,
    exponent_weight=16.0,
    width=1.5,
    width_weight=3.0,
    noise_weight=1.0,
    workers=0,
)
MIN_SIGNAL = 0.01


class KernelGAN(KernelEstimator):
    """KernelGAN (Bell-Kligler et al. 2019).

    iterations, learning_rate, border, average_from, gan_after_start: see `KernelGANConfig`.
    batch: number of estimates trained together; None: as many as fit into half of the free memory,
    at most 32.
    device: `auto` selects a GPU if there is one; `device_index` selects one of several GPUs.
    seeds: number of estimates per photo. combine: how they are combined, see `choose_kernel`.
    """

    numbers = (*HEALTH, *LOSSES, "agreement")
    scales = (1, 2, 4, 8)
    unit = "iterations"

    def __init__(
        self,
        iterations: Annotated[int, Range(1)],
        learning_rate: Annotated[float, Range(above=0)],
        border: Annotated[int, Range(0)],
        batch: Annotated[int, Range(1)] | None,
        device: str,
        seeds: Annotated[int, Range(1)],
        combine: Literal["medoid", "mean"],
        average_from: Annotated[int, Range(1)] | None,
        gan_after_start: bool,
        device_index: int,
    ) -> None:
        if average_from is not None and average_from >= iterations:
            raise UserError(
                f"kernels.average_from={average_from}: expected less than "
                f"kernels.iterations={iterations}"
            )
        self._config = KernelGANConfig(
            iterations, learning_rate, border, average_from, gan_after_start
        )
        self._batch, self._seeds, self._combine = batch, seeds, combine
        self._device = choose_device(device, "kernels.device", index=device_index)
        self.steps = iterations * seeds
        self.runtime_only = frozenset({"batch", "device"} | ({"combine"} if seeds == 1 else set()))

    def observe(
        self, photos: Sequence[SourcePhoto], seed: int, advance: Advance
    ) -> Iterator[Batch]:
        """Yield the photos' raw kernels (seeds, 13, 13) and final losses (seeds,) in batches."""
        batch: dict[str, list[Photo]] = {}  # each photo once per seed
        damage: dict[str, str | None] = {}
        failures: dict[str, Exception] = {}
        for photo in photos:
            if not batch:
                free, batch_bytes = free_memory(self._device), 0
                max_bytes = None if free is None or self._batch else free // 2
                limit = self._batch or (DEFAULT_BATCH if max_bytes is None else MAX_BATCH)
            try:
                image, damage[photo.name] = photo.read()
                copies = prepare_photo(image, self._config, self._photo_seeds(seed, photo.name))
                # KernelGAN returns a kernel for any photo, even a flat one or pure noise.
                fit = fit_photo(image, replace(DETAIL_FIT, border=self._config.border))
                if fit.signal < MIN_SIGNAL:
                    raise NoKernelError("the photo shows only noise; use one with detail in focus")
            except (ImageError, ValueError) as error:
                # A traceback would keep the pixels in memory.
                failures[photo.name] = error.with_traceback(None)
                continue
            batch[photo.name] = copies
            batch_bytes += copies[0].pixels.nbytes + self._seeds * ENTRY_BYTES
            # Only `batch` may hold photos, so that they are freed before the next batch is read.
            del image, copies
            is_full = max_bytes is not None and batch_bytes >= max_bytes
            if is_full or (len(batch) + 1) * self._seeds > limit:
                yield failures | self._train(batch, damage, seed, advance)
                batch, failures = {}, {}
        if batch:
            yield failures | self._train(batch, damage, seed, advance)
        elif failures:
            yield failures

    def _train(
        self,
        batch: Mapping[str, list[Photo]],
        damage: Mapping[str, str | None],
        seed: int,
        advance: Advance,
    ) -> dict[str, Observation | Exception]:
        seeds = [number for name in batch for number in self._photo_seeds(seed, name)]
        photos = [photo for copies in batch.values() for photo in copies]
        estimates = train_kernelgans(photos, self._config, seeds, advance, self._device)
        observations: dict[str, Observation | Exception] = {}
        for position, name in enumerate(batch):
            part = slice(position * self._seeds, (position + 1) * self._seeds)
            losses = {key: values[part] for key, values in estimates.losses.items()}
            observations[name] = Observation(
                {"raw": estimates.kernels[part], **losses}, damage[name]
            )
        return observations

    def estimate(
        self, observations: Mapping[str, Observation], seed: int
    ) -> Mapping[str, KernelEstimate | NoKernelError]:
        """Return one kernel per photo, chosen from or averaged over its seeds."""
        return {
            name: choose_kernel(
                item.values["raw"], {key: item.values[key] for key in LOSSES}, self._combine
            )
            for name, item in observations.items()
        }

    def derive(self, kernel: Kernel, scale: int) -> Kernel:
        """Return the kernel for scale 8 or 1 from that for scale 2.

        Scale 8: the paper's rule for x4, applied again. Scale 1: the same blur in the photo's own
        pixels, which are 2 pixels of the x2 kernel wide.
        """
        return compose_x8(kernel) if scale == 8 else rescale(kernel, scale)

    def _photo_seeds(self, seed: int, name: str) -> list[int]:
        # The first seed does not depend on the number of seeds.
        return [
            derive_seed(seed, "kernels", name, *([index] if index else []))
            for index in range(self._seeds)
        ]


def choose_kernel(
    raws: np.ndarray, losses: Mapping[str, np.ndarray], combine: str
) -> KernelEstimate | NoKernelError:
    """Combine the raw kernels (seeds, 13, 13) of a photo into one; losses: (seeds,) by name.

    combine: `medoid`, the kernel with the smallest sum of distances to all others, or `mean`.
    Kernels of diverged training are ignored unless all diverged. Returns NoKernelError if no kernel
    has a positive sum.
    """
    candidates: dict[int, Kernel] = {}
    for index, raw in enumerate(raws):
        with suppress(ValueError):  # not finite, or no positive value after postprocessing
            candidates[index] = postprocess(raw)
    if not candidates:
        return NoKernelError("the estimation failed: no kernel has a positive sum")
    valid = {i: kernel for i, kernel in candidates.items() if raws[i].sum() > MIN_SUM}
    candidates = valid or candidates
    indices, kernels = list(candidates), list(candidates.values())
    if combine == "medoid":
        distances = [sum(kernel_distance(a, b) for b in kernels) for a in kernels]
        position = int(np.argmin(distances))
        kernel, indices = kernels[position], [indices[position]]
    else:
        kernel = average(kernels)
    numbers = measure_health(raws[indices].mean(axis=0), kernel)
    numbers |= {name: float(values[indices].mean()) for name, values in losses.items()}
    if len(kernels) > 1:
        numbers["agreement"] = agreement(kernels)
    return KernelEstimate(
        {2: [kernel], 4: [compose_x4(kernel)]},
        numbers,
        {"chosen": indices[0] if combine == "medoid" else None},
    )


def average(kernels: Sequence[Kernel]) -> Kernel:
    """Return the mean of kernels of odd sizes, superimposed at their indices k//2."""
    side = max(max(kernel.shape) for kernel in kernels)
    canvas = np.zeros((side, side))
    for kernel in kernels:
        top, left = (side // 2 - size // 2 for size in kernel.shape)
        canvas[top : top + kernel.shape[0], left : left + kernel.shape[1]] += normalise(kernel)
    return normalise(canvas)


def agreement(kernels: Sequence[Kernel]) -> float:
    """Return the mean kernel PSNR over all ordered pairs of kernels, in dB, at most 100."""
    pairs = combinations(kernels, 2)
    psnrs = [min(100.0, (kernel_psnr(a, b) + kernel_psnr(b, a)) / 2) for a, b in pairs]
    return float(np.mean(psnrs))


def prepare_photo(
    image_uint8: np.ndarray, config: KernelGANConfig, seeds: Sequence[int]
) -> list[Photo]:
    """Draw the crops of a photo (H, W, 3), once per seed; the pixels are shared.

    Raises ValueError if the photo is too small.
    """
    check_photo_size(image_uint8, G_CROP + 2 * (config.border + 1))
    pixels = torch.from_numpy(np.require(image_uint8, requirements="W")).permute(2, 0, 1)
    height, width = (size // 2 * 2 for size in pixels.shape[1:])
    pixels = pixels[:, :height, :width].contiguous()
    luma = torch.tensor([0.299, 0.587, 0.114])
    gray = sum(weight * channel for weight, channel in zip(luma, pixels, strict=True)) / 255
    half = resize(gray[None], factor=0.5)[0]
    maps = {
        G_CROP: interest_map(half.numpy(), G_CROP // 2),
        D_CROP: interest_map(gray.numpy(), D_CROP),
    }
    photos = []
    for seed in seeds:
        rng = numpy_generator(seed, "crops")
        corners = [
            draw_crops(interest, (height, width), crop, config.iterations, config.border, rng)
            for crop, interest in maps.items()
        ]
        photos.append(Photo(pixels, *corners))
    return photos


def interest_map(gray: np.ndarray, crop: int) -> np.ndarray:
    """Return the amount of detail in a crop centred at each pixel: (H, W) float64 >= 0.

    The gradients in x and y and their magnitude are each zeroed below their 97th percentile,
    clipped just above it and normalised. Their sum is box-blurred over half the crop.
    gray: (H, W), any range.
    """
    gray = gray.astype(np.float32, copy=False)
    gradients = [np.abs(gradient) for gradient in np.gradient(gray)]
    gradients.append(np.hypot(*gradients))
    total = np.zeros(gray.shape, dtype=np.float64)
    step = int(max(1, (gray.size / PERCENTILE_PIXELS) ** 0.5))
    for gradient in gradients:
        strong = gradient > np.percentile(gradient[::step, ::step], 97)
        # Clipping just above the percentile makes all strong gradients equal.
        total += strong / max(strong.sum(), 1)
    return ndimage.uniform_filter(total, crop // 2, mode="constant").clip(min=0)


def draw_crops(
    interest: np.ndarray,
    photo_shape: tuple[int, int],
    crop: int,
    count: int,
    border: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw even top-left corners (count, 2) of crops inside the photo without its border.

    interest: (h, w) probability of the crops' centres, at the photo's resolution or lower.
    """
    height, width = photo_shape
    step = height / interest.shape[0], width / interest.shape[1]
    weights = interest.ravel()
    if not weights.sum() > 0:  # a photo without any gradient
        weights = np.ones_like(weights)
    centres = rng.choice(weights.size, size=count, p=weights / weights.sum())
    positions = np.stack(np.unravel_index(centres, interest.shape), axis=1)
    corners = positions * np.array(step) - crop / 2
    # With even corners, cropping and downscaling by 2 commute.
    first = border + border % 2
    last = [(size - crop - border) // 2 * 2 for size in (height, width)]
    return np.clip(np.round(corners / 2).astype(np.int64) * 2, first, last)
