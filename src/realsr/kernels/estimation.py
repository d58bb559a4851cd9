"""The stage that makes the kernels of a pool, by whichever estimator."""

import inspect
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from realsr.core.components import Values, build_component, find_component
from realsr.core.errors import UserError
from realsr.core.files import check_folder_place, check_name, write_bytes
from realsr.core.progress import Progress
from realsr.data.folders import damage_facts, list_photos
from realsr.imaging import tell_damage
from realsr.imaging.kernel_shapes import save_kernel
from realsr.kernels.estimator import Batch, KernelEstimate, KernelEstimator, NoKernelError, Observation, SourcePhoto
from realsr.kernels.health import Gates, check_health, read_gates
from realsr.provenance.manifest import Shard, StageRecord, StageRules, open_stage, refuse_foreign

logger = logging.getLogger("realsr")

STAGE = "kernels"
OBSERVATIONS = "observations"
REJECTED = "rejected"
SHEET = "kernels.png"  # drawn by the command; belongs to the stage's files
LISTED = 20
ADVICE = "  Nothing is to be done if enough others are left; else try kernels.seeds=3 or kernels=spectral"


@dataclass(frozen=True)
class KernelPool:
    """What the stage has made. items: by name, as the manifest records them; changed: whether they are not as before.

    problem: what went wrong with some items while the others were done, None for nothing.
    """

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
    `pool/rejected` instead. Items that are done already are left as they are; their kernels are sorted anew where the
    gates have changed. A shard does its items only; a call for all merges what shards have done. Raises UserError at
    once if the pool has kernels of another config or of other photos; `KernelPool.check` raises it if a photo cannot
    be read or is too small (all others are done then) or if no kernel is sound.

    damaged: `accept` uses what can be decoded of damaged photos, and tells it in the log and in the manifest.
    key: the config key of the values, for messages.
    """
    estimator, gates = make_estimator(values, key, scale, workers, shard)
    own = getattr(estimator, "list_items", None)
    paths: Mapping[str, Path | None] = own(pool) if own else list_photos(source, "source", pool)
    check_folder_place("pool_dir", pool, (STAGE, REJECTED))
    refuse_foreign(pool, STAGE, "kernels/**/*.mat")
    photos = [SourcePhoto(name, path or Path(), damaged) for name, path in paths.items()]
    config = {name: value for name, value in values.items() if name not in estimator.runtime_only | {"gates"}}
    if "scale" in inspect.signature(find_component("realsr.kernels", key, values)).parameters:
        config["scale"] = scale
    stage = _Stage(estimator, gates, seed, shard)
    inputs = {stage.input_name(photo): photo.path for photo in photos if photo.path.name}
    recorded_seed = None if estimator.inputs == "mat" else seed
    open_record = partial(open_stage, pool, config=config, seed=recorded_seed, overwrite=overwrite)
    open_kernels = partial(open_record, STAGE, rules=StageRules(owned_paths=[SHEET]), check_item=_check_item)
    if not estimator.joint:
        with open_kernels(inputs=inputs, shard=shard) as record:
            return stage.make(record, photos)
    with open_record(OBSERVATIONS, inputs=inputs, shard=shard) as record:
        stage.observe(record, photos)
        record.finish()
        observed = dict(record.items)
    if shard is not None:
        return KernelPool(pool, {}, False, None)
    files = {relative: pool / relative for item in observed.values() for relative in item["files"]}
    with open_kernels(inputs=files, rules=StageRules(allow_new_inputs=False, owned_paths=[SHEET])) as record:
        return stage.make_jointly(record, photos, observed)


def make_estimator(
    values: Values, key: str, scale: int, workers: int | None = 0, shard: Shard | None = None
) -> tuple[KernelEstimator, Gates]:
    """Return the estimator that values name, and its gates. Raises UserError for values that mean nothing."""
    arguments = {name: value for name, value in values.items() if name != "gates"}
    supplied = {"scale": scale, "workers": workers, "device_index": shard.index if shard else 0}
    estimator: KernelEstimator = build_component("realsr.kernels", key, arguments, **supplied)
    if scale not in estimator.scales:
        scales = " and ".join(map(str, estimator.scales))
        raise UserError(f"scale={scale}: {key}.name={values['name']} makes kernels for scale {scales}")
    return estimator, read_gates(values.get("gates"), f"{key}.gates", estimator.numbers)


@dataclass(frozen=True)
class _Stage:
    """The work of the stage on an open record."""

    estimator: KernelEstimator
    gates: Gates
    seed: int
    shard: Shard | None

    def input_name(self, photo: SourcePhoto) -> str:
        """Name a photo's file as an input of the record."""
        kind = self.estimator.inputs
        return f"{kind}/{photo.path.name if kind == 'source' else f'{photo.name}{photo.path.suffix.lower()}'}"

    def make(self, record: StageRecord, photos: Sequence[SourcePhoto]) -> KernelPool:
        """Make the kernels of photos that stand each for itself; what a batch has yielded is kept at once."""
        moved = self._sort_again(record)
        missing, batches = self._observe(record, photos)
        for batch in batches:
            found = {name: item for name, item in batch.items() if isinstance(item, Observation)}
            estimates: dict[str, KernelEstimate | NoKernelError] = dict(self.estimator.estimate(found, self.seed))
            for name, item in batch.items():
                if isinstance(item, NoKernelError):
                    estimates[name] = item
            for name, estimate in estimates.items():
                damage = found[name].damage if name in found else None
                self._save(record, missing[name], estimate, damage_facts(damage))
            if self.estimator.steps > 1:  # the next batch takes its time
                record.save()
        return self._conclude(record, bool(missing) or moved)

    def observe(self, record: StageRecord, photos: Sequence[SourcePhoto]) -> None:
        """Store the observations of photos, from which a joint estimator makes their kernels."""
        missing, batches = self._observe(record, photos)
        for batch in batches:
            for name, item in batch.items():
                if isinstance(item, Observation):
                    path = record.folder / OBSERVATIONS / f"{name}.npz"
                    path.parent.mkdir(exist_ok=True)
                    content = io.BytesIO()
                    np.savez(content, **dict(item.values))  # type: ignore[arg-type]
                    write_bytes(path, content.getvalue(), sync=False)
                    record.add(name, [path], source=missing[name].path.name, **damage_facts(item.damage))
                elif isinstance(item, NoKernelError):
                    record.add(name, [], source=missing[name].path.name, rejected=[str(item)])

    def make_jointly(
        self, record: StageRecord, photos: Sequence[SourcePhoto], observed: Mapping[str, Mapping[str, Any]]
    ) -> KernelPool:
        """Make the kernels of all photos from their stored observations."""
        moved = self._sort_again(record)
        changed = any(not record.is_done(photo.name) for photo in photos)
        if changed:
            observations = {}
            estimates: dict[str, KernelEstimate | NoKernelError] = {}
            for name, item in sorted(observed.items()):
                for relative in item["files"]:
                    with np.load(record.path(relative)) as stored:
                        observations[name] = Observation(dict(stored))
                if not item["files"]:
                    estimates[name] = NoKernelError(item["rejected"][0])
            estimates |= self.estimator.estimate(observations, self.seed)
            for photo in photos:
                damage = {key: value for key, value in observed[photo.name].items() if key == "damaged"}
                self._save(record, photo, estimates[photo.name], damage)
        return self._conclude(record, changed or moved)

    def _observe(
        self, record: StageRecord, photos: Sequence[SourcePhoto]
    ) -> tuple[dict[str, SourcePhoto], Iterator[Batch]]:
        """Return the photos that are not done, and their observations; failures are noted in the record."""
        todo = list(photos) if self.shard is None else self.shard.take(photos)
        missing = {photo.name: photo for photo in todo if not record.is_done(photo.name)}
        for photo in list(missing.values()):
            try:
                check_name(_file_names(photo.name, 4, 1, False)[0])
            except ValueError as error:
                self._fail(record, missing.pop(photo.name), error)
        return missing, self._watch(record, missing, len(todo))

    def _watch(self, record: StageRecord, missing: Mapping[str, SourcePhoto], total: int) -> Iterator[Batch]:
        title = "kernels" if self.shard is None else f"kernels of shard {self.shard.index} of {self.shard.count}"
        title += f", {self.estimator.unit}" if self.estimator.unit else ""
        steps = self.estimator.steps
        with Progress(title, total=total * steps, done=(total - len(missing)) * steps) as progress:
            for batch in self.estimator.observe(list(missing.values()), self.seed, progress.advance):
                for name, item in batch.items():
                    if isinstance(item, Observation):
                        tell_damage(missing[name].path, item.damage)
                    elif not isinstance(item, NoKernelError):
                        self._fail(record, missing[name], item)
                yield batch

    def _fail(self, record: StageRecord, photo: SourcePhoto, error: Exception) -> None:
        record.fail(photo.name, self.input_name(photo), photo.path, error)

    def _save(
        self,
        record: StageRecord,
        photo: SourcePhoto,
        estimate: KernelEstimate | NoKernelError,
        damage: Mapping[str, str],
    ) -> None:
        facts: dict[str, Any] = {"source": photo.path.name} if photo.path.name else {}
        if isinstance(estimate, NoKernelError):
            record.add(photo.name, [], **facts, health=None, rejected=[str(estimate)])
            return
        reasons = check_health(estimate.numbers, self.gates)
        folder = record.folder / (REJECTED if reasons else STAGE)
        folder.mkdir(exist_ok=True)
        files = []
        for scale, kernels in estimate.kernels.items():
            names = _file_names(photo.name, scale, len(kernels), numbered=self.estimator.inputs == "mat")
            for name, kernel in zip(names, kernels, strict=True):
                files.append(folder / name)
                save_kernel(files[-1], kernel, sync=False)
        if self.estimator.inputs == "source" or estimate.numbers:
            facts |= {"health": dict(estimate.numbers), "rejected": reasons}
        record.add(photo.name, files, **facts, **estimate.facts, **damage)

    def _sort_again(self, record: StageRecord) -> bool:
        """Judge what is recorded by the gates as they are now, and move files; return whether anything changed."""
        record.notes["gates"] = dict(self.gates) or None
        changed = False
        for name, item in record.items.items():
            if item.get("health") is None or not record.is_done(name):
                continue
            reasons = check_health(item["health"], self.gates)
            changed |= reasons != item["rejected"]
            if bool(reasons) != bool(item["rejected"]):
                record.move(name, REJECTED if reasons else STAGE)
            item["rejected"] = reasons
        return changed

    def _conclude(self, record: StageRecord, changed: bool) -> KernelPool:
        changed |= not record.complete
        problem = None
        try:
            record.finish()
        except UserError as error:
            problem = str(error)
        pool = record.folder
        made = KernelPool(pool, record.items, changed, problem)
        if rejected := made.rejected:
            logger.warning("%s", _list_rejected(rejected, len(record.items), pool))
        if problem is None and self.shard is None and rejected and len(rejected) == len(record.items):
            problem = (
                f"{pool}: none of the {len(rejected)} kernels is sound; the reasons are above and in {pool / SHEET}. "
                "Take photos with more detail in focus, or move the gates that are named, e.g. "
                "kernels.gates.min_sum=0.05, or turn all off by kernels.gates=null: nothing is estimated again then."
            )
        return replace(made, problem=problem)


def _file_names(name: str, scale: int, count: int, numbered: bool) -> list[str]:
    """Return the names of an item's files for a scale: `a_kernel_x2.mat`, of several `a_000_kernel_x2.mat` and on."""
    if count == 1 and not numbered:
        return [f"{name}_kernel_x{scale}.mat"]
    return [f"{name}_{index:03d}_kernel_x{scale}.mat" for index in range(count)]


def _check_item(item: dict[str, Any]) -> None:
    """Raise KeyError or TypeError where a recorded item is not as `_save` records it."""
    if not all(isinstance(reason, str) for reason in item.get("rejected", [])):
        raise TypeError("rejected is not a list of reasons")
    health = item.get("health")
    if health is not None:
        if "rejected" not in item:
            raise KeyError("rejected")
        if not all(isinstance(value, int | float | None) for value in health.values()):
            raise TypeError("health is not made of numbers")


def _list_rejected(rejected: Mapping[str, Sequence[str]], total: int, pool: Path) -> str:
    lines = [f"  {name}: {'; '.join(reasons)}" for name, reasons in list(rejected.items())[:LISTED]]
    if len(rejected) > LISTED:
        lines.append(f"  and {len(rejected) - LISTED} more, see {pool / 'manifest.json'}")
    return "\n".join(
        [f"{len(rejected)} of {total} kernels fail a gate, are kept in {pool / REJECTED}, not used:", *lines, ADVICE]
    )
