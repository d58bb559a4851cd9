"""The estimator KernelGAN: a small GAN a photo, trained on that photo alone; batches of photos side by side."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from realsr.core.devices import choose_device
from realsr.core.memory import free_memory
from realsr.core.ranges import Range
from realsr.core.seeding import derive_seed
from realsr.imaging import ImageError
from realsr.kernels.combination import choose_kernel
from realsr.kernels.estimator import Advance, Batch, KernelEstimate, NoKernelError, Observation, SourcePhoto
from realsr.kernels.health import NUMBERS
from realsr.kernels.kernelgan_training import KernelGANConfig, Photo, prepare_photo, train_kernelgans
from realsr.kernels.spectral import SpectralPrior, estimate_spectral

MAX_BATCH = 32
BLIND_BATCH = 8  # where the system does not tell its free memory
ENTRY_BYTES = 15 * 2**20  # networks, optimisers and activations of one estimate
LOSSES = ("generator", "discriminator", "bicubic")
# A photo has detail if a fit with this prior finds that share of signal in it: white noise has 0.006 at most, the
# noisiest photos 0.02.
DETAIL_PRIOR = SpectralPrior(exponent=2.7, exponent_weight=16.0, width=1.5, width_weight=3.0, noise_weight=1.0)
NOISE_ALONE = 0.01


class KernelGAN:
    """KernelGAN (Bell-Kligler et al. 2019).

    iterations, learning_rate, frame: see `kernelgan_training.KernelGANConfig`.
    batch: estimates trained side by side; None: as many as fit into half of the free memory, 32 at most.
    device: `auto` is a GPU where there is one, the one of `device_index` of several.
    seeds: estimates a photo; combine: what is made of several, see `combination.choose_kernel`.
    """

    inputs: ClassVar = "source"
    joint: ClassVar = False
    numbers: ClassVar = (*NUMBERS, *LOSSES, "agreement")
    scales: ClassVar = (2, 4)
    unit: ClassVar = "iterations"

    def __init__(
        self,
        iterations: Annotated[int, Range(1)],
        learning_rate: Annotated[float, Range(above=0)],
        frame: Annotated[int, Range(0)],
        batch: Annotated[int, Range(1)] | None,
        device: str,
        seeds: Annotated[int, Range(1)],
        combine: Literal["medoid", "mean"],
        device_index: int,
    ) -> None:
        self._config = KernelGANConfig(iterations, learning_rate, frame)
        self._batch, self._seeds, self._combine = batch, seeds, combine
        self._device = choose_device(device, "kernels.device", index=device_index)
        self.steps = iterations * seeds
        self.runtime_only = frozenset({"batch", "device"} | ({"combine"} if seeds == 1 else set()))

    def observe(self, photos: Sequence[SourcePhoto], seed: int, advance: Advance) -> Iterator[Batch]:
        """Yield the raw kernels (seeds, 13, 13) and final losses (seeds,) of one batch of photos after the other."""
        damage: dict[str, str | None] = {}
        failures: dict[str, Exception] = {}
        for batch in self._prepare_batches(photos, seed, damage, failures):
            seeds = [_photo_seed(seed, name, i) for name in batch for i in range(self._seeds)]
            # Nothing but `batch` may hold the photos: it is emptied before the next ones are read.
            estimates = train_kernelgans(
                [photo for copies in batch.values() for photo in copies], self._config, seeds, advance, self._device
            )
            observations = dict[str, Observation | Exception](failures)
            failures.clear()
            for position, name in enumerate(batch):
                own = slice(position * self._seeds, (position + 1) * self._seeds)
                losses = {key: values[own] for key, values in estimates.losses.items()}
                observations[name] = Observation({"raw": estimates.kernels[own], **losses}, damage[name])
            yield observations
        if failures:
            yield failures

    def estimate(
        self, observations: Mapping[str, Observation], seed: int
    ) -> Mapping[str, KernelEstimate | NoKernelError]:
        """Return one kernel of those of a photo's seeds."""
        estimates: dict[str, KernelEstimate | NoKernelError] = {}
        for name, observation in observations.items():
            losses = {key: observation.values[key] for key in LOSSES}
            try:
                estimates[name] = choose_kernel(observation.values["raw"], losses, self._combine)
            except NoKernelError as error:
                estimates[name] = error
        return estimates

    def _prepare_batches(
        self,
        photos: Sequence[SourcePhoto],
        seed: int,
        damage: dict[str, str | None],
        failures: dict[str, Exception],
    ) -> Iterator[dict[str, list[Photo]]]:
        """Yield photos, each prepared once a seed, as many at a time as may be trained side by side.

        What is wrong with a photo's file is put into `damage`, why a photo has no kernel into `failures`.
        """
        batch: dict[str, list[Photo]] = {}
        room: int | None = None
        used = 0
        for photo in photos:
            if not batch:
                free, used = free_memory(self._device), 0
                room = None if free is None or self._batch else free // 2
            seeds = [_photo_seed(seed, photo.name, i) for i in range(self._seeds)]
            try:
                batch[photo.name], damage[photo.name] = self._prepare(photo, seeds)
            except (ImageError, ValueError) as error:
                failures[photo.name] = error
                continue
            used += batch[photo.name][0].pixels.nbytes + self._seeds * ENTRY_BYTES
            limit = self._batch or (BLIND_BATCH if room is None else MAX_BATCH)
            if (len(batch) + 1) * self._seeds > limit or (room is not None and used >= room):
                yield batch
                batch.clear()
        if batch:
            yield batch

    def _prepare(self, photo: SourcePhoto, seeds: list[int]) -> tuple[list[Photo], str | None]:
        """Return a photo, prepared once a seed, and what is wrong with its file; raises NoKernelError as well."""
        image, damage = photo.read()
        prepared = prepare_photo(image, self._config, seeds)
        # A GAN makes a kernel of anything, a flat photo and noise too.
        if estimate_spectral(image, DETAIL_PRIOR, self._config.frame).signal < NOISE_ALONE:
            raise NoKernelError("the photo shows noise alone: take one with detail in focus")
        return prepared, damage


def _photo_seed(seed: int, name: str, index: int) -> int:
    # The first of several seeds is the one that a photo has alone.
    return derive_seed(seed, "kernels", name, *([index] if index else []))
