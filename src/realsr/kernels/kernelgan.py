"""The estimator KernelGAN: a small GAN per photo, trained on that photo alone; batches of photos side by side."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import combinations
from typing import Annotated, Literal

import numpy as np

from realsr.core.devices import choose_device
from realsr.core.memory import free_memory
from realsr.core.ranges import Range
from realsr.core.seeding import derive_seed
from realsr.imaging import ImageError
from realsr.imaging.kernel_shapes import (
    Kernel,
    compose_x4,
    kernel_distance,
    kernel_psnr,
    normalise,
    postprocess,
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
    measure_health,
)
from realsr.kernels.kernelgan_crops import KernelGANConfig, Photo, prepare_photo
from realsr.kernels.kernelgan_training import train_kernelgans
from realsr.kernels.spectral import Spectral, estimate_spectral

MAX_BATCH = 32
DEFAULT_BATCH = 8  # where the free memory is unknown
ENTRY_BYTES = 15 * 2**20  # networks, optimisers and activations of one estimate
LOSSES = ("generator", "discriminator", "bicubic")
MIN_SUM = 0.1  # of a raw kernel: diverged training ends near 0
# A photo has detail if a fit with these values finds that share of signal in it: white noise has 0.006 at most, the
# noisiest photos 0.02.
DETAIL = Spectral(
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

    iterations, learning_rate, border: see `kernelgan_crops.KernelGANConfig`.
    batch: estimates trained side by side; None: as many as fit into half of the free memory, 32 at most.
    device: `auto` is a GPU where there is one, the one of `device_index` of several.
    seeds: estimates per photo; combine: what is made of several, see `choose_kernel`.
    """

    numbers = (*HEALTH, *LOSSES, "agreement")
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
        device_index: int,
    ) -> None:
        self._config = KernelGANConfig(iterations, learning_rate, border)
        self._batch, self._seeds, self._combine = batch, seeds, combine
        self._device = choose_device(device, "kernels.device", index=device_index)
        self.steps = iterations * seeds
        self.runtime_only = frozenset({"batch", "device"} | ({"combine"} if seeds == 1 else set()))

    def observe(
        self, photos: Sequence[SourcePhoto], seed: int, advance: Advance
    ) -> Iterator[Batch]:
        """Yield the raw kernels (seeds, 13, 13) and final losses (seeds,) of one batch of photos after the other."""
        batch: dict[str, list[Photo]] = {}  # each photo once a seed
        damage: dict[str, str | None] = {}
        failures: dict[str, Exception] = {}
        for photo in photos:
            if not batch:
                free, used = free_memory(self._device), 0
                room = None if free is None or self._batch else free // 2
                limit = self._batch or (DEFAULT_BATCH if room is None else MAX_BATCH)
            try:
                image, damage[photo.name] = photo.read()
                copies = prepare_photo(image, self._config, self._photo_seeds(seed, photo.name))
                # A GAN makes a kernel of anything, a flat photo and noise too.
                if (
                    estimate_spectral(image, replace(DETAIL, border=self._config.border)).signal
                    < MIN_SIGNAL
                ):
                    raise NoKernelError(
                        "the photo shows noise alone: take one with detail in focus"
                    )
            except (ImageError, ValueError) as error:
                failures[photo.name] = error.with_traceback(None)  # which would hold the pixels
                continue
            batch[photo.name] = copies
            used += copies[0].pixels.nbytes + self._seeds * ENTRY_BYTES
            del (
                image,
                copies,
            )  # nothing but `batch` holds photos, and it is emptied before the next ones are read
            if (len(batch) + 1) * self._seeds > limit or (room is not None and used >= room):
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
        """Return one kernel of those of a photo's seeds."""
        return {
            name: choose_kernel(
                item.values["raw"], {key: item.values[key] for key in LOSSES}, self._combine
            )
            for name, item in observations.items()
        }

    def _photo_seeds(self, seed: int, name: str) -> list[int]:
        # The first of several seeds is the one that a photo has alone.
        return [
            derive_seed(seed, "kernels", name, *([index] if index else []))
            for index in range(self._seeds)
        ]


def choose_kernel(
    raws: np.ndarray, losses: Mapping[str, np.ndarray], how: str
) -> KernelEstimate | NoKernelError:
    """Make one kernel of a photo's raw ones (seeds, 13, 13), with the losses (seeds,) by name.

    how: `medoid`, the kernel with the smallest sum of distances to the others, or `mean`. Diverged ones are left out
    if there are others; NoKernelError where none has a positive sum.
    """
    processed: dict[int, Kernel] = {}
    for index, raw in enumerate(raws):
        with suppress(ValueError):  # nothing is left of it, or it is not finite
            processed[index] = postprocess(raw)
    if not processed:
        return NoKernelError("no kernel came out: its sum is not a positive number")
    processed = {
        index: kernel for index, kernel in processed.items() if raws[index].sum() > MIN_SUM
    } or processed
    indices, kernels = list(processed), list(processed.values())
    if how == "medoid":
        position = int(
            np.argmin(
                [sum(kernel_distance(kernel, other) for other in kernels) for kernel in kernels]
            )
        )
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
        {"chosen": indices[0] if how == "medoid" else None},
    )


def average(kernels: Sequence[Kernel]) -> Kernel:
    """Return the mean of kernels of odd sizes, their indices k//2 placed on each other: aligned as they are."""
    side = max(max(kernel.shape) for kernel in kernels)
    canvas = np.zeros((side, side))
    for kernel in kernels:
        top, left = (side // 2 - size // 2 for size in kernel.shape)
        canvas[top : top + kernel.shape[0], left : left + kernel.shape[1]] += normalise(kernel)
    return normalise(canvas)


def agreement(kernels: Sequence[Kernel]) -> float:
    """Return the mean kernel PSNR over ordered pairs of two kernels or more, in dB, 100 at most."""
    pairs = combinations(kernels, 2)
    return float(
        np.mean([min(100.0, (kernel_psnr(a, b) + kernel_psnr(b, a)) / 2) for a, b in pairs])
    )
