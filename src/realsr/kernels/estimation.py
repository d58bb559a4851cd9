"""The stage that makes the kernels of a pool, by whichever estimator."""

import inspect
import io
import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from realsr.core.components import Values, build_component, convert, find_component
from realsr.core.errors import UserError
from realsr.core.files import check_folder_place, check_name, write_bytes
from realsr.core.progress import Progress
from realsr.core.ranges import Range
from realsr.data.folders import damage_facts, list_photos
from realsr.imaging import log_damage
from realsr.imaging.kernel_shapes import save_kernel
from realsr.kernels.estimator import (
    Batch,
    KernelEstimate,
    KernelEstimator,
    NoKernelError,
    Observation,
    SourcePhoto,
)
from realsr.provenance.manifest import Shard, StageRules, open_stage, refuse_foreign
from realsr.provenance.sections import StageRecord

logger = logging.getLogger("realsr")

STAGE = "kernels"
OBSERVATIONS = "observations"
REJECTED = "rejected"
SHEET = "kernels.png"  # drawn by the command; belongs to the stage's files
LISTED = 20
ADVICE = "  If enough others are left, nothing is to be done; else try kernels.seeds=3 or kernels=spectral"

Gates = Mapping[
    str, float | None
]  # limits by `min_` or `max_` and a number that is reported; None: no limit


@dataclass(frozen=True)
class KernelPool:
    """Items as recorded in the manifest, whether they changed, and what went wrong with some while others were done."""

    folder: Path
    items: Mapping[str, Mapping[str, Any]]
    changed: bool
    problem: str | None

    @property
    def rejected(self) -> dict[str, list[str]]:
        """Why kernels fail a gate, or why a photo has none, by name."""
        return {name: item["rejected"] for name, item in self.items.items() if item.get("rejected")}

    def check(self) -> None:
        """Raise UserError where something went wrong."""
        if self.problem is not None:
            raise UserError(self.problem)


def estimate_kernels(
    source: Path | None,
    pool: Path,
    values: Values,
    scale: int = 4,
    seed: int = 0,
    overwrite: bool = False,
    shard: Shard | None = None,
    workers: int | None = 0,
    damaged: str = "refuse",
    key: str = "kernels",
) -> KernelPool:
    """Make kernels by the estimator that `values` name, into `pool/kernels/<photo>_kernel_x2.mat` and `_x4.mat`.

    Several draws are `<photo>_000_kernel_x2.mat` and on. Kernels that fail a gate (`values["gates"]`) go to
    `pool/rejected` instead; finished ones are sorted again where the gates have changed. A call without a shard merges
    what shards have done. Raises UserError if the pool has kernels of another config or of other photos;
    `KernelPool.check` raises it if a photo could not be used (all others are done then) or if no kernel is sound.

    damaged: `accept` uses what can be decoded of damaged photos. key: the config key of the values, for messages.
    """
    estimator, gates = make_estimator(values, key, scale, workers, shard)
    list_items = getattr(estimator, "list_items", None)
    paths: Mapping[str, Path | None] = (
        list_items(pool) if list_items else list_photos(source, "source", pool)
    )
    check_folder_place("pool_dir", pool, (STAGE, REJECTED))
    refuse_foreign(pool, STAGE, "kernels/**/*.mat")
    photos = {name: SourcePhoto(name, path or Path(), damaged) for name, path in paths.items()}
    config = {
        name: value
        for name, value in values.items()
        if name not in estimator.runtime_only | {"gates"}
    }
    if "scale" in inspect.signature(find_component("realsr.kernels", key, values)).parameters:
        config["scale"] = scale
    recorded_seed = None if estimator.inputs == "mat" else seed
    request: dict[str, Any] = {
        "config": config,
        "seed": recorded_seed,
        "overwrite": overwrite,
        "shard": shard,
    }
    inputs = {
        _input_name(estimator, photo): photo.path for photo in photos.values() if photo.path.name
    }
    observed: dict[str, Any] | None = None
    if estimator.joint:
        with open_stage(pool, OBSERVATIONS, inputs=inputs, **request) as record:
            for batch in _observe(record, estimator, photos, seed, shard):
                _save_observations(record, photos, batch)
            record.finish()
            observed = dict(record.items)
        if shard is not None:
            return KernelPool(pool, {}, False, None)
        inputs = {
            relative: pool / relative for item in observed.values() for relative in item["files"]
        }
    rules = StageRules(allow_new_inputs=not estimator.joint, owned_paths=[SHEET])
    with open_stage(
        pool, STAGE, inputs=inputs, check_item=_check_item, rules=rules, **request
    ) as record:
        changed = _apply_gates(record, gates) or not record.complete
        if observed is None:
            batches = _observe(record, estimator, photos, seed, shard)
        else:
            batches = _load_observations(record, observed)
        for batch in batches:
            changed = True
            observations = {
                name: item for name, item in batch.items() if isinstance(item, Observation)
            }
            estimates = estimator.estimate(observations, seed)
            for name, item in batch.items():
                if isinstance(item, Observation):
                    _save(record, photos[name], estimates[name], estimator, gates, item.damage)
                elif isinstance(item, NoKernelError):
                    _save(record, photos[name], item, estimator, gates)
            if estimator.steps > 1:  # the next batch takes its time
                record.save()
        return _conclude(record, changed, shard)


def make_estimator(
    values: Values, key: str, scale: int, workers: int | None = 0, shard: Shard | None = None
) -> tuple[KernelEstimator, Gates]:
    """Return the estimator that values name, and its gates. Raises UserError for invalid values."""
    arguments = {name: value for name, value in values.items() if name != "gates"}
    supplied = {"scale": scale, "workers": workers, "device_index": shard.index if shard else 0}
    estimator: KernelEstimator = build_component("realsr.kernels", key, arguments, **supplied)
    if scale not in estimator.scales:
        scales = " and ".join(map(str, estimator.scales))
        raise UserError(
            f"scale={scale}: {key}.name={values['name']} makes kernels for scale {scales}"
        )
    return estimator, read_gates(values.get("gates"), f"{key}.gates", estimator.numbers)


def read_gates(values: Any, key: str, numbers: Collection[str]) -> dict[str, float | None]:
    """Return gates from YAML values. Raises UserError for what is no limit, or limits no reported number."""
    gates: dict[str, float | None] = convert(key, values, dict[str, Any] | None) or {}
    for gate, limit in gates.items():
        side, _, name = str(gate).partition("_")
        if side not in ("min", "max") or name not in numbers:
            reported = ", ".join(numbers) or "none"
            raise UserError(
                f"{key}.{gate}: expected min_ or max_ of a number that is reported: {reported}"
            )
        convert(f"{key}.{gate}", limit, Annotated[float, Range()] | None)
    return gates


def check_health(numbers: Mapping[str, float | None], gates: Gates) -> list[str]:
    """Return why a kernel's numbers fail the gates; a number that was not reported passes."""
    reasons = []
    for gate, limit in gates.items():
        side, _, name = gate.partition("_")
        value = numbers.get(name)
        if limit is None or value is None or (value >= limit if side == "min" else value <= limit):
            continue  # nan fails
        reasons.append(
            f"{name} {value:.3g} is {'below' if side == 'min' else 'above'} {gate} {limit:g}"
        )
    return reasons


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
    """Yield the observations of the photos that are not done; failures are noted in the record."""
    names = list(photos) if shard is None else shard.take(list(photos))
    missing = []
    for photo in (photos[name] for name in names if not record.is_done(name)):
        try:
            check_name(f"{photo.name}_kernel_x4.mat")
            missing.append(photo)
        except ValueError as error:
            record.fail(photo.name, _input_name(estimator, photo), photo.path, error)
    title = "kernels" if shard is None else f"kernels of shard {shard.index} of {shard.count}"
    title += f", {estimator.unit}" if estimator.unit else ""
    done = len(names) - len(missing)
    with Progress(
        title, total=len(names) * estimator.steps, done=done * estimator.steps
    ) as progress:
        for batch in estimator.observe(missing, seed, progress.advance):
            for name, item in batch.items():
                if isinstance(item, Observation):
                    log_damage(photos[name].path, item.damage)
                elif not isinstance(item, NoKernelError):
                    record.fail(name, _input_name(estimator, photos[name]), photos[name].path, item)
            yield batch


def _save_observations(
    record: StageRecord, photos: Mapping[str, SourcePhoto], batch: Batch
) -> None:
    for name, item in batch.items():
        facts = {"source": photos[name].path.name}
        if isinstance(item, Observation):
            path = record.folder / OBSERVATIONS / f"{name}.npz"
            path.parent.mkdir(exist_ok=True)
            content = io.BytesIO()
            np.savez(content, **dict(item.values))  # type: ignore[arg-type]
            write_bytes(path, content.getvalue(), sync=False)
            record.add(name, [path], **facts, **damage_facts(item.damage))
        elif isinstance(item, NoKernelError):
            record.add(name, [], **facts, rejected=[str(item)])


def _load_observations(
    record: StageRecord, observed: Mapping[str, Mapping[str, Any]]
) -> Iterator[Batch]:
    """Yield all stored observations as one batch, unless the kernels of all are done."""
    if all(record.is_done(name) for name in observed):
        return
    batch: dict[str, Observation | Exception] = {}
    for name, item in sorted(observed.items()):
        for relative in item["files"]:
            with np.load(record.path(relative)) as archive:
                batch[name] = Observation(dict(archive), item.get("damaged"))
        if not item["files"]:
            batch[name] = NoKernelError(item["rejected"][0])
    yield batch


def _save(
    record: StageRecord,
    photo: SourcePhoto,
    estimate: KernelEstimate | NoKernelError,
    estimator: KernelEstimator,
    gates: Gates,
    damage: str | None = None,
) -> None:
    facts: dict[str, Any] = ({"source": photo.path.name} if photo.path.name else {}) | damage_facts(
        damage
    )
    if isinstance(estimate, NoKernelError):
        record.add(photo.name, [], **facts, health=None, rejected=[str(estimate)])
        return
    reasons = check_health(estimate.numbers, gates)
    folder = record.folder / (REJECTED if reasons else STAGE)
    folder.mkdir(exist_ok=True)
    files = []
    for scale, kernels in estimate.kernels.items():
        for index, kernel in enumerate(kernels):
            number = f"_{index:03d}" if len(kernels) > 1 or estimator.inputs == "mat" else ""
            files.append(folder / f"{photo.name}{number}_kernel_x{scale}.mat")
            save_kernel(files[-1], kernel, sync=False)
    if estimator.inputs == "source" or estimate.numbers:
        facts |= {"health": dict(estimate.numbers), "rejected": reasons}
    record.add(photo.name, files, **facts, **estimate.facts)


def _check_item(item: dict[str, Any]) -> None:
    """Raise KeyError or TypeError where a recorded item is not as `_save` records it."""
    health = item.get("health")
    reasons = item.get("rejected", []) if health is None else item["rejected"]
    if not all(isinstance(reason, str) for reason in reasons):
        raise TypeError("rejected is not a list of reasons")
    if health is not None and not all(
        isinstance(value, int | float | None) for value in health.values()
    ):
        raise TypeError("health is not made of numbers")


def _apply_gates(record: StageRecord, gates: Gates) -> bool:
    """Apply the gates as they are now to what is recorded, and move files; return whether anything changed."""
    record.notes["gates"] = dict(gates) or None
    changed = False
    for name, item in record.items.items():
        if item.get("health") is None or not record.is_done(name):
            continue
        reasons = check_health(item["health"], gates)
        changed |= reasons != item["rejected"]
        if bool(reasons) != bool(item["rejected"]):
            record.move(name, REJECTED if reasons else STAGE)
        item["rejected"] = reasons
    return changed


def _conclude(record: StageRecord, changed: bool, shard: Shard | None) -> KernelPool:
    pool, count = record.folder, len(record.items)
    result = KernelPool(pool, record.items, changed, None)
    try:
        record.finish()
    except UserError as error:
        result = replace(result, problem=str(error))
    rejected = result.rejected
    if rejected:
        lines = [f"  {name}: {'; '.join(reasons)}" for name, reasons in rejected.items()]
        if len(lines) > LISTED:
            lines[LISTED:] = [f"  and {len(lines) - LISTED} more, see {pool / 'manifest.json'}"]
        head = f"{len(rejected)} of {count} kernels fail a gate. They are in {pool / REJECTED}, not used:"
        logger.warning("%s", "\n".join([head, *lines, ADVICE]))
    if result.problem is None and shard is None and rejected and len(rejected) == count:
        problem = (
            f"{pool}: none of the {count} kernels is sound; the reasons are above and in {pool / SHEET}. Take photos "
            "with more detail in focus, or move the gates that are named, e.g. kernels.gates.min_sum=0.05, or turn all "
            "off by kernels.gates=null: nothing is estimated again then."
        )
        return replace(result, problem=problem)
    return result
