"""The stage that estimates the kernels of a folder of source photos."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from realsr.core.devices import choose_device
from realsr.core.errors import UserError
from realsr.core.files import check_folder_place, check_name
from realsr.core.progress import Progress
from realsr.core.ranges import check_ranges
from realsr.data.folders import damage_facts, list_photos
from realsr.imaging.kernel_shapes import load_kernel, save_kernel
from realsr.kernels.combination import Outcome
from realsr.kernels.estimation_config import KernelsConfig
from realsr.kernels.estimators import estimate_by_kernelgan, estimate_by_spectrum
from realsr.kernels.health import HealthGates, KernelHealth, check_health
from realsr.provenance.manifest import StageRecord, StageRules, name_inputs, open_stage, refuse_foreign
from realsr.provenance.shards import Shard
from realsr.reporting.kernel_sheet import KernelTile, choose_evenly, write_kernel_sheet

logger = logging.getLogger("realsr")

STAGE = "kernels"
REJECTED = "rejected"
SHEET = "kernels.png"
LISTED = 20
ADVICE = "  Nothing is to be done if enough others are left; else try kernels.seeds=3 or kernels=spectral"


def estimate_kernels(
    source: Path | None,
    pool: Path,
    config: KernelsConfig,
    seed: int = 0,
    overwrite: bool = False,
    shard: Shard | None = None,
    workers: int | None = 0,
    damaged: str = "refuse",
) -> None:
    """Estimate each source photo's kernel into `pool/kernels/<photo>_kernel_x2.mat` and `_x4.mat`.

    Kernels that fail a gate go to `pool/rejected` instead. Photos that are done already are left as they are; their
    kernels are sorted anew where the gates have changed. A shard does its photos only; a call for all merges what
    shards have done and draws `pool/kernels.png`. Raises UserError at the end if a photo cannot be read or is too
    small (all others are done then) or if no kernel is sound, and at once if the pool has kernels of another config
    or of other photos.

    damaged: `accept` uses what can be decoded of damaged photos, and tells it in the log and in the manifest.
    """
    check_ranges(config, "kernels")
    device = choose_device(config.device, "kernels.device", index=shard.index if shard else 0)
    photos = list_photos(source, "source", pool)
    check_folder_place("pool_dir", pool, (STAGE, REJECTED))
    refuse_foreign(pool, STAGE, "kernels/**/*.mat")
    inputs = name_inputs("source", list(photos.values()))
    with open_stage(
        pool,
        STAGE,
        config=config.facts(),
        seed=seed,
        inputs=inputs,
        overwrite=overwrite,
        rules=StageRules(owned_paths=[SHEET]),
        shard=shard,
        check_item=_check_item,
    ) as record:
        record.notes["gates"] = asdict(config.gates) if config.gates else None
        moved = _sort_again(record, config.gates)
        names = list(photos) if shard is None else shard.take(list(photos))
        missing = {name: photos[name] for name in names if not record.is_done(name)}
        for name, photo in list(missing.items()):
            try:
                check_name(_kernel_file(name, 4))
            except ValueError as error:
                record.fail(name, f"source/{photo.name}", photo, error)
                del missing[name]
        _estimate(missing, len(names), config, seed, record, shard, device, workers, damaged)
        whole = shard is None and bool(record.items)
        if whole and (missing or moved or not record.complete or not (pool / SHEET).is_file()):
            draw_sheet(pool, record.items)
        if whole:
            sound = sum(not item["rejected"] for item in record.items.values())
            logger.info("kernels: %d in %s, all drawn in %s", sound, pool / STAGE, pool / SHEET)
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


def _estimate(
    missing: Mapping[str, Path],
    total: int,
    config: KernelsConfig,
    seed: int,
    record: StageRecord,
    shard: Shard | None,
    device: torch.device,
    workers: int | None,
    damaged: str,
) -> None:
    """Estimate the kernels of missing photos; what a batch has yielded is kept at once."""
    spectral = config.method == "spectral"
    steps = 1 if spectral else config.iterations * config.seeds
    title = "kernels" if shard is None else f"kernels of shard {shard.index} of {shard.count}"
    title += "" if spectral else ", iterations"
    with Progress(title, total=total * steps, done=(total - len(missing)) * steps) as progress:
        batches: Iterable[Mapping[str, Outcome | str]]
        if spectral:
            batches = estimate_by_spectrum(missing, config, record, progress, workers, damaged)
        else:
            batches = estimate_by_kernelgan(missing, config, seed, record, progress, device, damaged)
        for outcomes in batches:
            for name, outcome in outcomes.items():
                _save(name, outcome, missing[name], config.gates, record)
            if not spectral:
                record.save()


def _kernel_file(name: str, scale: int) -> str:
    return f"{name}_kernel_x{scale}.mat"


def _save(name: str, outcome: Outcome | str, photo: Path, gates: HealthGates | None, record: StageRecord) -> None:
    if isinstance(outcome, str):
        record.add(name, [], source=photo.name, chosen=None, health=None, rejected=[outcome])
        return
    reasons = check_health(outcome.health, gates) if gates else []
    folder = record.folder / (REJECTED if reasons else STAGE)
    folder.mkdir(exist_ok=True)
    files = {
        folder / _kernel_file(name, 2): outcome.kernel,
        folder / _kernel_file(name, 4): outcome.kernel_x4,
    }
    for path, values in files.items():
        save_kernel(path, values, sync=False)
    facts = {"chosen": outcome.chosen, "health": asdict(outcome.health), "rejected": reasons}
    record.add(name, files, source=photo.name, **facts, **damage_facts(outcome.damage))


def _sort_again(record: StageRecord, gates: HealthGates | None) -> bool:
    """Judge what is recorded by the gates as they are now, and move files; return whether anything changed."""
    changed = False
    for name, item in record.items.items():
        if item["health"] is None or not record.is_done(name):
            continue
        reasons = check_health(KernelHealth(**item["health"]), gates) if gates else []
        changed |= reasons != item["rejected"]
        if bool(reasons) != bool(item["rejected"]):
            record.move(name, REJECTED if reasons else STAGE)
        item["rejected"] = reasons
    return changed


def _check_item(item: dict[str, Any]) -> None:
    """Raise KeyError or TypeError where a recorded item lacks what `_save` records."""
    if not all(isinstance(reason, str) for reason in item["rejected"]):
        raise TypeError("rejected is not a list of reasons")
    health = item["health"]
    if health is not None and not all(isinstance(value, int | float | None) for value in health.values()):
        raise TypeError("health is not made of numbers")
    if health is not None:
        KernelHealth(**health)


def _list_rejected(rejected: Mapping[str, Sequence[str]], total: int, pool: Path) -> str:
    lines = [f"  {name}: {'; '.join(reasons)}" for name, reasons in list(rejected.items())[:LISTED]]
    if len(rejected) > LISTED:
        lines.append(f"  and {len(rejected) - LISTED} more, see {pool / 'manifest.json'}")
    return "\n".join(
        [f"{len(rejected)} of {total} kernels fail a gate, are kept in {pool / REJECTED}, not used:", *lines, ADVICE]
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
