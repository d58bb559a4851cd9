"""The stage that makes the kernels of a pool with any estimator."""

import inspect
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from realsr.core.components import Values, find_component
from realsr.core.errors import UserError
from realsr.core.files import check_folder_place, check_name, write_bytes
from realsr.core.progress import Progress
from realsr.data.folders import damage_facts, list_photos
from realsr.imaging import log_damage
from realsr.imaging.kernel_shapes import load_kernel, save_kernel
from realsr.kernels import estimator_output
from realsr.kernels.estimator import (
    Batch,
    KernelEstimate,
    KernelEstimator,
    NoKernelError,
    Observation,
    SourcePhoto,
    make_estimator,
    name_faults,
)
from realsr.kernels.gates import REJECTS, Gates, apply_gates, check_health, list_failed_gates
from realsr.provenance.manifest import Shard, StageRules, open_stage, refuse_foreign, take_shard
from realsr.provenance.sections import StageRecord

logger = logging.getLogger("realsr")

STAGE = "kernels"
OBSERVATIONS = "observations"
SHEET = "kernels.png"  # drawn by the command, owned by the stage
MAX_LINES = 20


class NoSoundKernelError(UserError):
    """No photo of a pool has a usable kernel."""


@dataclass(frozen=True)
class KernelPool:
    """Result of the stage.

    items: as recorded in the manifest. has_changes: whether this call changed them.
    error: tells which items failed, or that no photo has a usable kernel; None if the pool is usable.
    """

    folder: Path
    items: Mapping[str, Mapping[str, Any]]
    has_changes: bool
    error: UserError | None = None

    def __repr__(self) -> str:
        sound = len(self.items) - len(self.rejects)
        return f"KernelPool({sound} sound, {len(self.rejects)} rejected, in {self.folder})"

    @property
    def rejects(self) -> dict[str, list[str]]:
        """Reasons why kernels fail a gate or photos yield no kernel, by name."""
        return {name: item["rejected"] for name, item in self.items.items() if item.get("rejected")}

    def check(self) -> None:
        """Raise the error, a NoSoundKernelError if no kernel is usable."""
        if self.error is not None:
            raise self.error


def estimate_kernels(
    source: Path | None,
    pool: Path,
    values: Values,
    scale: int,
    seed: int,
    overwrite: bool,
    shard: Shard | None,
    workers: int | None,
    damaged: str,
    key: str,
) -> KernelPool:
    """Estimate kernels into `pool/kernels/<photo>_kernel_x2.mat` and `_x4.mat`.

    At another scale the estimator derives further files from the x2 kernels, also in a finished
    pool. Several draws are named `<photo>_000_kernel_x2.mat` and so on. Kernels that fail a gate
    (`values["gates"]`) go to `pool/rejected` instead. If the gates have changed since, kernels of
    earlier calls are moved accordingly. A call without a shard merges the results of all shards.

    Raises UserError if the pool has kernels of another config or of other photos.
    `KernelPool.check` raises UserError if a photo cannot be used (all others are processed
    nevertheless) or if no photo has a usable kernel.

    values: the estimator's name, arguments and gates. key: their config key, for messages.
    damaged: `accept` uses the decodable part of damaged photos.
    """
    estimator, gates = make_estimator(values, key, scale, workers, shard)
    photos = _list_photos(estimator, source, pool, damaged)
    check_folder_place("pool_dir", pool, (STAGE, REJECTS))
    refuse_foreign(pool, STAGE)
    open_record = partial(
        open_stage,
        pool,
        config=_config(estimator, values, key, scale),
        seed=None if estimator.inputs == "mat" else seed,
        overwrite=overwrite,
        shard=shard,
    )
    files = [photo for photo in photos.values() if photo.path.name]
    inputs = {_input_name(estimator, photo): photo.path for photo in files}
    observe = partial(_observe, estimator=estimator, photos=photos, seed=seed, shard=shard)
    if estimator.joint:
        with open_record(OBSERVATIONS, inputs=inputs) as record:
            for batch in observe(record):
                _save_observations(record, photos, batch, estimator)
            record.finish()
        if shard is not None:
            return KernelPool(pool, {}, has_changes=False)
        inputs = {path: pool / path for item in record.items.values() for path in item["files"]}
        observe = partial(_load_observations, items=dict(record.items))
    rules = StageRules(allow_new_inputs=not estimator.joint, owned_paths=[SHEET])
    with open_record(STAGE, inputs=inputs, check_item=_check_item, rules=rules) as record:
        has_changes = apply_gates(record, gates) or not record.complete
        for batch in observe(record):
            has_changes = True
            _estimate(record, photos, batch, estimator, gates, seed, scale)
        has_changes |= _derive_kernels(record, estimator, scale)
        return _conclude(record, has_changes, shard, f"{key}.gates")


def _list_photos(
    estimator: KernelEstimator, source: Path | None, pool: Path, damaged: str
) -> dict[str, SourcePhoto]:
    """Return what the estimator observes, by name: source photos or its own items."""
    list_items = getattr(estimator, "list_items", None)
    paths: Mapping[str, Path | None]
    if list_items is None:
        paths = list_photos(source, "source", pool)
    else:
        with name_faults(estimator, "list_items"):
            paths = dict(list_items(pool))
    return {name: SourcePhoto(name, path or Path(), damaged) for name, path in paths.items()}


def _config(estimator: KernelEstimator, values: Values, key: str, scale: int) -> dict[str, Any]:
    """Return the values that the record compares."""
    runtime_keys = estimator.runtime_only | {"gates"}
    config = {name: value for name, value in values.items() if name not in runtime_keys}
    constructor = inspect.signature(find_component("realsr.kernels", key, values))
    return config | ({"scale": scale} if "scale" in constructor.parameters else {})


def _input_name(estimator: KernelEstimator, photo: SourcePhoto) -> str:
    """Name a photo's file as an input of the record."""
    if estimator.inputs == "source":
        return f"source/{photo.path.name}"
    return f"{estimator.inputs}/{photo.name}{photo.path.suffix.lower()}"


def _observe(
    record: StageRecord,
    estimator: KernelEstimator,
    photos: Mapping[str, SourcePhoto],
    seed: int,
    shard: Shard | None,
) -> Iterator[Batch]:
    """Yield the observations of the photos without kernels; record failures."""
    names = take_shard(photos, shard)
    queue = []
    for photo in (photos[name] for name in names if not record.has_item(name)):
        try:
            check_name(f"{photo.name}_kernel_x4.mat")
            queue.append(photo)
        except ValueError as error:
            record.fail(photo.name, _input_name(estimator, photo), photo.path, error)
    title = "kernels" if shard is None else f"kernels of shard {shard.index} of {shard.count}"
    title += f", {estimator.unit}" if estimator.unit else ""
    total, start = (count * estimator.steps for count in (len(names), len(names) - len(queue)))
    with Progress(title, total=total, done=start) as progress:
        for batch in estimator_output.observe(estimator, queue, seed, progress.advance):
            for name, item in batch.items():
                if isinstance(item, Observation):
                    log_damage(photos[name].path, item.damage)
                elif not isinstance(item, NoKernelError):
                    record.fail(name, _input_name(estimator, photos[name]), photos[name].path, item)
            yield batch


def _save_observations(
    record: StageRecord,
    photos: Mapping[str, SourcePhoto],
    batch: Batch,
    estimator: KernelEstimator,
) -> None:
    for name, item in batch.items():
        if isinstance(item, Observation):
            path = record.folder / OBSERVATIONS / f"{name}.npz"
            content = estimator_output.pack_observation(estimator, name, item)
            path.parent.mkdir(exist_ok=True)
            write_bytes(path, content, sync=False)
            record.add(name, [path], **_photo_facts(photos[name], item.damage))
        elif isinstance(item, NoKernelError):
            record.add(name, [], **_photo_facts(photos[name], None), rejected=[str(item)])


def _load_observations(
    record: StageRecord, items: Mapping[str, Mapping[str, Any]]
) -> Iterator[Batch]:
    """Yield all stored observations as one batch, or nothing if all kernels exist."""
    if all(record.has_item(name) for name in items):
        return
    batch: dict[str, Observation | Exception] = {}
    for name, item in sorted(items.items()):
        for relative in item["files"]:
            with np.load(record.path(relative)) as archive:
                batch[name] = Observation(dict(archive), item.get("damaged"))
        if not item["files"]:
            batch[name] = NoKernelError(item["rejected"][0])
    yield batch


def _estimate(
    record: StageRecord,
    photos: Mapping[str, SourcePhoto],
    batch: Batch,
    estimator: KernelEstimator,
    gates: Gates,
    seed: int,
    scale: int,
) -> None:
    """Estimate and record the kernels of a batch."""
    observations = {name: item for name, item in batch.items() if isinstance(item, Observation)}
    estimates = estimator_output.estimate(estimator, observations, seed, scale)
    for name, item in batch.items():
        outcome: KernelEstimate | NoKernelError
        if isinstance(item, Observation):
            outcome, damage = estimates[name], item.damage
        elif isinstance(item, NoKernelError):
            outcome, damage = item, None
        else:
            continue
        facts = _photo_facts(photos[name], damage)
        if isinstance(outcome, NoKernelError):
            record.add(name, [], **facts, health=None, rejected=[str(outcome)])
            continue
        reasons = check_health(outcome.numbers, gates)
        folder = record.folder / (REJECTS if reasons else STAGE)
        files = _save_kernels(folder, name, outcome, with_numbers=estimator.inputs == "mat")
        if estimator.inputs == "source" or outcome.numbers:
            facts |= {"health": dict(outcome.numbers), "rejected": reasons}
        record.add(name, files, **facts, **outcome.facts)
    if estimator.steps > 1:  # the next batch takes long
        record.save()


def _photo_facts(photo: SourcePhoto, damage: str | None) -> dict[str, Any]:
    source = {"source": photo.path.name} if photo.path.name else {}
    return source | damage_facts(damage)


def _save_kernels(
    folder: Path, name: str, estimate: KernelEstimate, with_numbers: bool
) -> list[Path]:
    """Write the kernels of an item, with numbers if there are several or if `with_numbers`."""
    folder.mkdir(exist_ok=True)
    files = []
    for scale, kernels in estimate.kernels.items():
        for index, kernel in enumerate(kernels):
            number = f"_{index:03d}" if len(kernels) > 1 or with_numbers else ""
            files.append(folder / f"{name}{number}_kernel_x{scale}.mat")
            save_kernel(files[-1], kernel, sync=False)
    return files


def _derive_kernels(record: StageRecord, estimator: KernelEstimator, scale: int) -> bool:
    """Add the kernels for a scale that the x2 kernels give; return whether any were added."""
    if getattr(estimator, "derive", None) is None:
        return False
    has_changes = False
    for name, item in list(record.items.items()):
        sources = {
            f"{path.removesuffix('2.mat')}{scale}.mat": path
            for path in item["files"]
            if path.endswith("_x2.mat")
        }
        paths = [path for path in sources if path not in item["files"]]
        if paths and record.has_item(name):
            for path in paths:
                kernel = load_kernel(record.path(sources[path]))
                kernel = estimator_output.derive(estimator, kernel, scale)
                save_kernel(record.path(path), kernel, sync=False)
            facts = {key: value for key, value in item.items() if key != "files"}
            record.add(name, [record.folder / path for path in (*item["files"], *paths)], **facts)
            has_changes = True
    return has_changes


def _check_item(item: dict[str, Any]) -> None:
    """Raise KeyError or TypeError if a recorded item does not have the form that `_estimate` records."""
    health = item.get("health")
    reasons = item.get("rejected", []) if health is None else item["rejected"]
    if not all(isinstance(reason, str) for reason in reasons):
        raise TypeError("`rejected` is not a list of texts")
    values = {} if health is None else health
    if not all(isinstance(value, int | float | None) for value in values.values()):
        raise TypeError("`health` has a value that is not a number")


def _conclude(
    record: StageRecord, has_changes: bool, shard: Shard | None, gates_key: str
) -> KernelPool:
    """Finish the record, log the photos without a usable kernel, and return the result."""
    pool, count = record.folder, len(record.items)
    result = KernelPool(pool, record.items, has_changes)
    try:
        record.finish()
    except UserError as error:
        result = replace(result, error=error)
    rejects = result.rejects
    if rejects:
        lines = [f"  {name}: {'; '.join(reasons)}" for name, reasons in rejects.items()]
        extra = len(lines) - MAX_LINES
        if extra > 0:
            lines[MAX_LINES:] = [f"  and {extra} more, see {pool / 'manifest.json'}"]
        head = (
            f"{len(rejects)} of {count} photos have no usable kernel "
            f"(kernels that fail a gate are in {pool / REJECTS}):"
        )
        logger.warning("%s", "\n".join([head, *lines]))
    if result.error is None and shard is None and rejects and len(rejects) == count:
        problem = (
            f"{pool}: none of {count} photos has a usable kernel; "
            f"the reasons are listed above and in {pool / SHEET}. "
            "Use photos with more detail in focus"
        )
        gates = ", ".join(list_failed_gates(record))
        if gates:
            problem += (
                f", or relax the gates that fail, {gates}, or disable all with {gates_key}=null. "
                "A change of gates estimates nothing again"
            )
        return replace(result, error=NoSoundKernelError(f"{problem}."))
    return result
