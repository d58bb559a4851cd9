"""The methods that estimate a photo's kernel, each as a source of outcomes for the stage."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from realsr.core.memory import free_memory
from realsr.core.progress import Progress
from realsr.core.seeding import derive_seed
from realsr.core.workers import count_workers, map_items
from realsr.imaging import ImageError, read_uint8_and_damage, tell_damage
from realsr.kernels.combination import Outcome, choose_kernel
from realsr.kernels.estimation_config import KernelsConfig
from realsr.kernels.health import measure_health
from realsr.kernels.kernelgan import Estimates, Photo, prepare_photo, train_kernelgans
from realsr.kernels.spectral import NoDetailError, estimate_spectral
from realsr.provenance.manifest import StageRecord

MAX_BATCH = 32
BLIND_BATCH = 8  # where the system does not tell its free memory
NOISE_ALONE = 0.01  # share of signal (`SpectralEstimate`); white noise has 0.006 at most, the noisiest photos 0.02
NO_KERNEL = "no kernel came out: its sum is not a positive number"
ENTRY_BYTES = 15 * 2**20  # networks, optimisers and activations of one estimate


def estimate_by_spectrum(
    photos: Mapping[str, Path],
    config: KernelsConfig,
    record: StageRecord,
    progress: Progress,
    workers: int | None,
    damaged: str,
) -> Iterator[dict[str, Outcome | str]]:
    """Yield each photo's kernel by its power spectrum, computed in worker processes; else why it has none."""
    count = count_workers(len(photos), workers)
    outcomes = map_items(partial(_by_spectrum, config=config, damaged=damaged), photos.values(), count)
    for (name, path), outcome in zip(photos.items(), outcomes, strict=True):
        progress.advance()
        if isinstance(outcome, NoDetailError):
            yield {name: str(outcome)}
        elif isinstance(outcome, Outcome):
            tell_damage(path, outcome.damage)
            yield {name: outcome}
        else:
            record.fail(name, f"source/{path.name}", path, outcome)


def _by_spectrum(path: Path, config: KernelsConfig, damaged: str) -> Outcome | Exception:
    try:
        photo, damage = read_uint8_and_damage(path, damaged)
        estimate = estimate_spectral(photo, config.spectral, config.frame)
    except (ImageError, ValueError) as error:
        return error
    numbers = {"residual": estimate.residual, "signal": estimate.signal}
    health = measure_health(estimate.kernel, estimate.kernel, numbers)
    return Outcome(estimate.kernel, estimate.kernel_x4, health, None, damage)


def estimate_by_kernelgan(
    photos: Mapping[str, Path],
    config: KernelsConfig,
    seed: int,
    record: StageRecord,
    progress: Progress,
    device: torch.device,
    damaged: str,
) -> Iterator[dict[str, Outcome | str]]:
    """Yield the kernels of one batch of photos after the other; for a photo that has got none, why."""
    damage: dict[str, str | None] = {}
    outcomes: dict[str, Outcome | str] = {}
    for batch in _prepare_batches(photos, config, seed, record, device, damaged, damage, outcomes):
        seeds = [_photo_seed(seed, name, i) for name in batch for i in range(config.seeds)]
        # Nothing but `batch` may hold the photos: it is emptied before the next ones are read.
        estimates = train_kernelgans(
            [photo for copies in batch.values() for photo in copies], config, seeds, progress.advance, device
        )
        for position, name in enumerate(batch):
            own = slice(position * config.seeds, (position + 1) * config.seeds)
            losses = {key: values[own] for key, values in estimates.losses.items()}
            outcome = choose_kernel(Estimates(estimates.kernels[own], losses), config.combine)
            outcomes[name] = NO_KERNEL if outcome is None else replace(outcome, damage=damage[name])
        yield dict(outcomes)
        outcomes.clear()
    if outcomes:
        yield outcomes


def _photo_seed(seed: int, name: str, index: int) -> int:
    # The first of several seeds is the one that a photo has alone.
    return derive_seed(seed, "kernels", name, *([index] if index else []))


def _prepare_batches(
    missing: Mapping[str, Path],
    config: KernelsConfig,
    seed: int,
    record: StageRecord,
    device: torch.device,
    damaged: str,
    damage: dict[str, str | None],
    outcomes: dict[str, Outcome | str],
) -> Iterator[dict[str, list[Photo]]]:
    """Yield photos, each prepared once a seed, as many at a time as may be trained side by side.

    What is wrong with a photo's file is put into `damage`, why a photo without detail has no kernel into `outcomes`.
    """
    batch: dict[str, list[Photo]] = {}
    room: int | None = None
    used = 0
    for name, path in missing.items():
        if not batch:
            free, used = free_memory(device), 0
            room = None if free is None or config.batch else free // 2
        try:
            seeds = [_photo_seed(seed, name, i) for i in range(config.seeds)]
            batch[name], damage[name] = _prepare(path, config, seeds, damaged)
        except NoDetailError as error:
            outcomes[name] = str(error)
            continue
        except (ImageError, ValueError) as error:
            record.fail(name, f"source/{path.name}", path, error)
            continue
        tell_damage(path, damage[name])
        used += batch[name][0].pixels.nbytes + config.seeds * ENTRY_BYTES
        limit = config.batch or (BLIND_BATCH if room is None else MAX_BATCH)
        if (len(batch) + 1) * config.seeds > limit or (room is not None and used >= room):
            yield batch
            batch.clear()
    if batch:
        yield batch


def _prepare(path: Path, config: KernelsConfig, seeds: list[int], damaged: str) -> tuple[list[Photo], str | None]:
    """Return a photo, prepared once a seed, and what is wrong with its file; raises NoDetailError as well."""
    image, damage = read_uint8_and_damage(path, damaged)
    photos = prepare_photo(image, config, seeds)
    # A GAN makes a kernel of anything, a flat photo and noise too.
    if estimate_spectral(image, config.spectral, config.frame).signal < NOISE_ALONE:
        raise NoDetailError("the photo shows noise alone: take one with detail in focus")
    return photos, damage
