"""The stage that estimates the kernels of a folder of source photos."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from realsr.degradation.combination import Outcome, choose_kernel, combine
from realsr.degradation.health import HealthGates, KernelHealth, check_health
from realsr.degradation.kernelgan import Estimates, KernelGANConfig, Photo, prepare_photo, train_kernelgans
from realsr.degradation.kernels import compose_x4, load_kernel, save_kernel
from realsr.degradation.photos import list_photos
from realsr.errors import UserError
from realsr.imaging import ImageError, read_uint8
from realsr.manifest import StageRecord, name_inputs, open_stage, refuse_foreign
from realsr.memory import free_memory
from realsr.progress import Progress
from realsr.reporting.kernels import KernelTile, choose_evenly, write_kernel_sheet
from realsr.seeding import derive_seed
from realsr.shards import Shard

logger = logging.getLogger("realsr")

STAGE = "kernels"
REJECTED = "rejected"
SHEET = "kernels.png"
MAX_BATCH = 32
BLIND_BATCH = 8  # where the system does not tell its free memory
ENTRY_BYTES = 15 * 2**20  # networks, optimisers and activations of one estimate
LISTED = 20


@dataclass
class KernelsConfig(KernelGANConfig):
    """How the kernels of a folder are estimated, and which are kept.

    batch: estimates trained side by side; None: as many as fit into half of the free memory, 32 at most.
    device: `auto` is a GPU where there is one, each shard on the next of several.
    seeds: estimates a photo; combine: what is made of several, `medoid` or `mean`.
    gates: which kernels are kept apart as unsound; None: no gate at all.
    """

    batch: int | None = None
    device: str = "auto"
    seeds: int = 1
    combine: str = "medoid"
    gates: HealthGates | None = field(default_factory=HealthGates)

    def facts(self) -> dict[str, Any]:
        """Return what kernels depend on: gates only sort them, the others are about speed."""
        dropped = {"batch", "device", "gates"} | ({"combine"} if self.seeds == 1 else set())
        return {key: value for key, value in asdict(self).items() if key not in dropped}


def estimate_kernels(
    source: Path | None,
    pool: Path,
    config: KernelsConfig,
    seed: int = 0,
    overwrite: bool = False,
    shard: Shard | None = None,
) -> None:
    """Estimate each source photo's kernel into `pool/kernels/<photo>_kernel_x2.mat` and `_x4.mat`.

    Kernels that fail a gate go to `pool/rejected` instead. Photos that are done already are left as they are; their
    kernels are sorted anew where the gates have changed. A shard does its photos only; a call for all merges what
    shards have done and draws `pool/kernels.png`. Raises UserError at the end if a photo cannot be read or is too
    small (all others are done then) or if no kernel is sound, and at once if the pool has kernels of another config
    or of other photos.
    """
    check_config(config)
    device = choose_device(config.device, shard)
    photos = list_photos(source, "source", pool)
    refuse_foreign(pool, STAGE, "kernels/**/*.mat")
    inputs = name_inputs("source", list(photos.values()))
    with open_stage(
        pool,
        STAGE,
        config=config.facts(),
        seed=seed,
        inputs=inputs,
        overwrite=overwrite,
        belongings=[SHEET],
        shard=shard,
    ) as record:
        record.notes["gates"] = asdict(config.gates) if config.gates else None
        moved = _sort_again(record, config.gates)
        names = list(photos) if shard is None else shard.take(list(photos))
        missing = {name: photos[name] for name in names if not record.is_done(name)}
        _estimate(missing, len(names), config, seed, record, shard, device)
        if shard is None and (missing or moved or not record.complete or not (pool / SHEET).is_file()):
            draw_sheet(pool, record.items)
        rejected = {name: item["rejected"] for name, item in record.items.items() if item["rejected"]}
        if rejected:
            logger.warning("%s", _list_rejected(rejected, len(record.items), pool))
        record.finish()
        if shard is None and len(rejected) == len(record.items):
            raise UserError(
                f"{pool}: none of the {len(rejected)} kernels is sound; the reasons are above and in {pool / SHEET}. "
                "Take photos with more detail in focus, or move the gates that are named, e.g. "
                "kernels.gates.min_sum=0.05, or turn all off by kernels.gates=null: nothing is estimated again then."
            )


def check_config(config: KernelsConfig) -> None:
    """Raise UserError for numbers that mean nothing and for an unknown way to combine."""
    for name in ("iterations", "seeds", "batch"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise UserError(f"kernels.{name}={value}: expected 1 or more")
    combine([np.eye(3)], config.combine)


def choose_device(name: str, shard: Shard | None) -> torch.device:
    """Return the device of a name; `auto` spreads shards over the GPUs. Raises UserError for one that is not there."""
    if name == "auto":
        gpus = torch.cuda.device_count()
        return torch.device("cuda", shard.index % gpus if shard else 0) if gpus else torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"kernels.device={name} cannot be used ({reason}): say auto, cpu or cuda") from error
    return device


def _estimate(
    missing: Mapping[str, Path],
    total: int,
    config: KernelsConfig,
    seed: int,
    record: StageRecord,
    shard: Shard | None,
    device: torch.device,
) -> None:
    """Estimate the kernels of missing photos batch by batch; what a batch has yielded is kept at once."""
    steps = config.iterations * config.seeds
    title = "kernels, iterations" if shard is None else f"kernels of shard {shard.index} of {shard.count}, iterations"
    with Progress(title, total=total * steps, done=(total - len(missing)) * steps) as progress:
        for batch in _prepare_batches(missing, config, seed, record, device):
            seeds = [_photo_seed(seed, name, i) for name in batch for i in range(config.seeds)]
            # Nothing but `batch` may hold the photos: it is emptied before the next ones are read.
            estimates = train_kernelgans(
                [photo for photos in batch.values() for photo in photos], config, seeds, progress.advance, device
            )
            for position, name in enumerate(batch):
                own = slice(position * config.seeds, (position + 1) * config.seeds)
                losses = {key: values[own] for key, values in estimates.losses.items()}
                outcome = choose_kernel(Estimates(estimates.kernels[own], losses), config.combine)
                _save(name, outcome, missing[name], config.gates, record)
            record.save()


def _photo_seed(seed: int, name: str, index: int) -> int:
    # The first of several seeds is the one that a photo has alone.
    return derive_seed(seed, STAGE, name, *([index] if index else []))


def _prepare_batches(
    missing: Mapping[str, Path], config: KernelsConfig, seed: int, record: StageRecord, device: torch.device
) -> Iterator[dict[str, list[Photo]]]:
    """Yield photos, each prepared once a seed, as many at a time as may be trained side by side."""
    batch: dict[str, list[Photo]] = {}
    room: int | None = None
    used = 0
    for name, path in missing.items():
        if not batch:
            free, used = free_memory(device), 0
            room = None if free is None or config.batch else free // 2
        try:
            batch[name] = _prepare(path, config, [_photo_seed(seed, name, i) for i in range(config.seeds)])
        except (ImageError, ValueError) as error:
            record.fail(name, f"source/{path.name}", path, error)
            continue
        used += batch[name][0].pixels.nbytes + config.seeds * ENTRY_BYTES
        limit = config.batch or (BLIND_BATCH if room is None else MAX_BATCH)
        if (len(batch) + 1) * config.seeds > limit or (room is not None and used >= room):
            yield batch
            batch.clear()
    if batch:
        yield batch


def _prepare(path: Path, config: KernelsConfig, seeds: Sequence[int]) -> list[Photo]:
    """Prepare a photo once a seed; all share its pixels."""
    image = read_uint8(path)
    photos = [prepare_photo(image, config, seed) for seed in seeds]
    return [replace(photo, pixels=photos[0].pixels) for photo in photos]


def _save(name: str, outcome: Outcome | None, photo: Path, gates: HealthGates | None, record: StageRecord) -> None:
    if outcome is None:
        reason = "no kernel came out: its sum is not a positive number"
        record.add(name, [], source=photo.name, chosen=None, health=None, rejected=[reason])
        return
    reasons = check_health(outcome.health, gates) if gates else []
    folder = record.folder / (REJECTED if reasons else STAGE)
    folder.mkdir(exist_ok=True)
    files = {
        folder / f"{name}_kernel_x2.mat": outcome.kernel,
        folder / f"{name}_kernel_x4.mat": compose_x4(outcome.kernel),
    }
    for path, values in files.items():
        save_kernel(path, values)
    record.add(name, files, source=photo.name, chosen=outcome.chosen, health=asdict(outcome.health), rejected=reasons)


def _sort_again(record: StageRecord, gates: HealthGates | None) -> bool:
    """Judge what is recorded by the gates as they are now, and move files; return whether anything changed."""
    changed = False
    for name, item in record.items.items():
        if item["health"] is None or not record.is_done(name):
            continue
        reasons = check_health(KernelHealth(**item["health"]), gates) if gates else []
        changed |= reasons != item["rejected"]
        if bool(reasons) != bool(item["rejected"]):
            folder = REJECTED if reasons else STAGE
            (record.folder / folder).mkdir(exist_ok=True)
            files = {f"{folder}/{Path(old).name}": (old, content) for old, content in item["files"].items()}
            for new, (old, _) in files.items():
                (record.folder / old).replace(record.folder / new)
            item["files"] = {new: content for new, (_, content) in files.items()}
        item["rejected"] = reasons
    return changed


def _list_rejected(rejected: Mapping[str, Sequence[str]], total: int, pool: Path) -> str:
    lines = [f"  {name}: {'; '.join(reasons)}" for name, reasons in list(rejected.items())[:LISTED]]
    if len(rejected) > LISTED:
        lines.append(f"  and {len(rejected) - LISTED} more, see {pool / 'manifest.json'}")
    return "\n".join(
        [f"{len(rejected)} of {total} kernels fail a gate, are kept in {pool / REJECTED}, not used:", *lines]
    )


def draw_sheet(pool: Path, items: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw the x2 kernels of recorded items into `pool/kernels.png`."""
    rejected = sum(bool(item["rejected"]) for item in items.values())
    shown = choose_evenly(sorted(items))
    title = f"{len(items) - rejected} kernels for scale 2" + (f", and {rejected} rejected (red)" if rejected else "")
    if len(shown) < len(items):
        title += f"; {len(shown)} of them, evenly chosen by name"
    write_kernel_sheet(pool / SHEET, [_tile(name, items[name], pool) for name in shown], title)


def _tile(name: str, item: Mapping[str, Any], pool: Path) -> KernelTile:
    paths = [pool / relative for relative in item["files"] if relative.endswith("_x2.mat")]
    lines = []
    if health := item["health"]:
        lines.append(f"spread {health['spread_long']:.2f} x {health['spread_short']:.2f} px")
        seeds = "" if health["agreement"] is None else f"  seeds {health['agreement']:.0f} dB"
        lines.append(f"sum {health['sum']:.2f}{seeds}")
    kernel = load_kernel(paths[0]) if paths else None
    return KernelTile(name, kernel, lines, item["rejected"])
