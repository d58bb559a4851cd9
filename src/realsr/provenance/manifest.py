"""What a stage leaves behind: provenance, and what is already done.

Each stage writes one folder and keeps a section of that folder's `manifest.json`: config, seed, package versions,
inputs with content hashes, and per item its files and where they came from. From the section a repeated command
knows what is done, an interrupted one where to go on, and a changed one what differs. Where the items are divided
among shards, each shard keeps its part of the section in a file of its own; a call for all items merges these files.
"""

import copy
import json
import logging
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from realsr.core.errors import UserError
from realsr.core.files import hold_lock, inside, remove_leftovers
from realsr.provenance.fingerprints import fingerprint_inputs, package_versions
from realsr.provenance.migrations import FORMAT, Section, migrate
from realsr.provenance.sections import (
    MANIFEST,
    StageRecord,
    is_lost,
    list_shard_manifests,
    read_parts,
    read_sections,
)

logger = logging.getLogger("realsr")

Item = TypeVar("Item")


@dataclass(frozen=True)
class StageRules:
    """What holds for a stage, whatever it is asked to make.

    allow_new_inputs: an unfinished stage may take more inputs, since each of its items stands for itself.
    owned_paths: files and folders in the stage's folder that `overwrite` deletes with its items.
    changes_key, allow_changes: for a stage that can go on with what it made under another config or from other inputs:
        the key that allows it, and its value. Differences are logged then, and the record takes the new config.
    wait: wait for another process that works on the stage, or raise UserError.
    """

    allow_new_inputs: bool = True
    owned_paths: Sequence[str] = ()
    changes_key: str | None = None
    allow_changes: bool = False
    wait: bool = True


@dataclass(frozen=True)
class Shard:
    """The items index, index + count, index + 2 count, … of a sorted list, which one process or machine does."""

    index: int
    count: int

    def take(self, items: Sequence[Item]) -> list[Item]:
        """Return the items of this shard, in their order."""
        return list(items)[self.index :: self.count]


def choose_shard(index: int | None, count: int | None) -> Shard | None:
    """Return the shard that the keys `shard` and `shards` set, None for all items. Raises UserError for half of it."""
    if index is None and count is None:
        return None
    if index is None or count is None or not 0 <= index < count:
        raise UserError(
            f"shard={index} shards={count}: set both, shard counted from 0 to shards - 1, e.g. shard=0 shards=8, or "
            "run all of them by -m 'shard=range(8)' shards=8"
        )
    return Shard(index, count)


@contextmanager
def open_stage(
    folder: Path,
    stage: str,
    *,
    config: Mapping[str, Any],
    seed: int | None,
    inputs: Mapping[str, Path],
    files: Mapping[str, Path] | None = None,
    overwrite: bool = False,
    shard: Shard | None = None,
    check_item: Callable[[dict[str, Any]], object] = lambda item: None,
    rules: StageRules = StageRules(),
) -> Iterator[StageRecord]:
    """Open the record of a stage that writes into `folder`, and save it whatever happens in the block.

    Args:
        seed: None where the stage leaves nothing to chance.
        inputs: name -> file, e.g. "source/0001.png"; files of a known size and time are not read again.
        files: key of `config` -> the file that its value names. Such values are equal where the files' contents are.
        overwrite: where the section in the manifest has another config, seed or other inputs, delete its files and
            restart, instead of raising UserError.
        shard: do only these of the `inputs`, recorded in a file of the shard. Several shards may run at a time.
        check_item: raises KeyError, TypeError or ValueError for a recorded item that lacks what the stage recorded.

    Raises:
        UserError: for differences, and for a manifest that has another form or lists files outside of `folder`; then
            nothing is deleted.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(
            f"{folder}: a file is in the way; set another work_dir or move that file"
        ) from error
    file = MANIFEST if shard is None else f"manifest.{stage}.shard{shard.index}of{shard.count}.json"
    with _hold_locks(folder, stage, file, rules.wait):
        parts = read_parts(folder, stage, check_item)
        remove_leftovers(folder)
        own_inputs = (
            inputs if shard is None else {name: inputs[name] for name in shard.take(list(inputs))}
        )
        request = {
            "format": FORMAT,
            "config": json.loads(json.dumps(dict(config), default=str)),
            "seed": seed,
            "versions": package_versions(),
            "inputs": fingerprint_inputs(own_inputs, _merge(parts.values(), "inputs")),
            "files": fingerprint_inputs(files or {}, _merge(parts.values(), "files")),
        }
        unreadable = own_inputs.keys() - request["inputs"].keys()
        fixed = MANIFEST in parts and (parts[MANIFEST]["complete"] or not rules.allow_new_inputs)
        empty: Section = {"inputs": {}, "items": {}}
        before = copy.deepcopy(parts.get(MANIFEST, empty))
        if differences := _find_differences(
            parts.values(), request, inputs.keys() - unreadable, fixed
        ):
            if overwrite and shard is None:
                _delete(folder, parts, rules.owned_paths)
                parts, before = {}, empty
            elif rules.allow_changes:
                logger.warning(
                    "%s: %s continues with changes:\n%s",
                    folder,
                    stage,
                    _list_differences(differences),
                )
                parts = {name: _note_changes(part, differences) for name, part in parts.items()}
            else:
                raise UserError(
                    f"{folder}: {stage} made with another configuration or from other inputs:\n"
                    f"{_list_differences(differences)}\n{_advise(shard, rules.changes_key)}"
                )
        record = _open_record(folder, stage, file, request, parts, before)
        opened = json.dumps(record.section)
        try:
            yield record
        finally:
            if json.dumps(record.section) != opened:
                record.save()


def lock_stage(folder: Path, stage: str, wait: bool) -> AbstractContextManager[None]:
    """Hold the lock of a stage in its folder, which must exist; `wait` as in `hold_lock`."""
    advice = "Wait until it ends, stop it, or set another folder."
    return hold_lock(folder / f".{stage}.lock", f"{folder}: {stage}", wait, advice)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a folder's manifest, stage -> section; empty where the folder has none.

    Raises UserError where the file is not a manifest.
    """
    return {
        stage: migrate(stage, section)
        for stage, section in read_sections(folder / MANIFEST).items()
    }


def is_foreign(folder: Path, stage: str, pattern: str) -> bool:
    """Return whether a folder holds files (glob) of a stage that its manifest does not list: made elsewhere."""
    manifest = folder / MANIFEST
    lost = manifest.is_file() and is_lost(manifest)
    known = lost or stage in read_sections(manifest) or list_shard_manifests(folder, stage)
    return not known and next(folder.glob(pattern), None) is not None


def refuse_foreign(folder: Path, stage: str, pattern: str) -> None:
    """Raise UserError rather than mix a stage's files with others that were put there by hand."""
    if is_foreign(folder, stage, pattern):
        raise UserError(
            f"{folder}: holds {stage} that were made elsewhere ({pattern} without a manifest). realsr.train uses them "
            "as they are. To make new ones, move them away or set another work_dir."
        )


def name_inputs(kind: str, paths: Sequence[Path]) -> dict[str, Path]:
    """Name input files for a manifest: {"source/0001.png": path}."""
    return {f"{kind}/{path.name}": path for path in paths}


def compare_value(
    section: Section, key: str, value: object, files: Mapping[str, Any]
) -> str | None:
    """Return in words how a value of a section's config differs from the new one; None where it does not.

    A file is compared by its content, whatever its path is. files: fingerprints of the files that values of the new
    config name, by key.
    """
    old, old_file, file = (
        section["config"].get(key, "nothing"),
        section.get("files", {}).get(key),
        files.get(key),
    )
    if key == "init":  # earlier versions noted that file alone
        old_file = old_file or section.get("notes", {}).get("init")
    same_content = old_file and file and old_file["sha256"] == file["sha256"]
    if old == value and old_file and file and not same_content:
        return f"{key}: {value} has another content now"
    return None if old == value or same_content else f"{key}: {old} there, {value} now"


@contextmanager
def _hold_locks(folder: Path, stage: str, file: str, wait: bool) -> Iterator[None]:
    """Hold the stage's lock for all items, once no shard is at work, or a shard's lock, once no call for all is."""
    with ExitStack() as locks:
        locks.enter_context(lock_stage(folder, stage, wait))
        if file != MANIFEST:
            with lock_stage(folder, file, wait):
                locks.close()  # so that other shards can start
                yield
            return
        for path in folder.glob(f".manifest.{stage}.shard*.lock"):
            with lock_stage(folder, path.stem[1:], wait):
                pass
        yield


def _open_record(
    folder: Path,
    stage: str,
    file: str,
    request: Section,
    parts: Mapping[str, Section],
    before: Section,
) -> StageRecord:
    """Return the record of a request, with what `parts` have of it; file: the manifest that it is saved in."""
    sections = (
        parts if file == MANIFEST else {name: part for name, part in parts.items() if name == file}
    )
    merged = {
        key: _merge(sections.values(), key) | request.get(key, {})
        for key in ("inputs", "files", "items", "notes")
    }
    section = (
        request | merged | {"complete": sections.keys() == {file} and sections[file]["complete"]}
    )
    other_items = _merge((part for name, part in parts.items() if name not in sections), "items")
    record = StageRecord(folder, stage, section, file, other_items, before)
    # At once, so that a run killed at any moment leaves no file that no manifest lists, and that inputs which were
    # only touched are not read a third time.
    if sections.keys() != {file} or any(
        section[key] != sections[file].get(key, {}) for key in ("inputs", "files")
    ):
        record.save()
    if file == MANIFEST:
        for path in list_shard_manifests(folder, stage):
            path.unlink()
    return record


def _merge(sections: Iterable[Section], key: str) -> dict[str, Any]:
    """Merge one key's mapping of several sections."""
    return {name: value for section in sections for name, value in section.get(key, {}).items()}


def _delete(folder: Path, parts: Mapping[str, Section], owned_paths: Sequence[str]) -> None:
    for relative in (
        relative
        for part in parts.values()
        for item in part["items"].values()
        for relative in item["files"]
    ):
        inside(folder, relative).unlink(missing_ok=True)
    for path in (folder / name for name in owned_paths):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _note_changes(section: Section, differences: list[str]) -> Section:
    """Return a section that takes a new config and new inputs, with a note of what differs."""
    notes = section["notes"] | {"changes": [*section["notes"].get("changes", []), differences]}
    return section | {"inputs": {}, "complete": False, "notes": notes}


def _find_differences(
    parts: Collection[Section], request: Section, present: Collection[str], fixed: bool
) -> list[str]:
    """Return in words where the sections of a stage differ from a request.

    present: names of all inputs that exist, of which the request may have a shard's alone. fixed: whether new inputs
    are a difference.
    """
    config, seed, inputs = request["config"], request["seed"], request["inputs"]
    lines = []
    for old in parts:
        lines += [] if old["seed"] == seed else [f"seed: {old['seed']} there, {seed} now"]
        keys = old["config"].keys() | config.keys()
        # First what both have: what only one has follows from it, as a method's own settings do from the method.
        for key in sorted(
            keys, key=lambda key: (key not in old["config"] or key not in config, key)
        ):
            if difference := compare_value(old, key, config.get(key, "nothing"), request["files"]):
                lines.append(difference)
    known = _merge(parts, "inputs")
    for name, content in known.items():
        if name not in present:
            lines.append(f"{name}: was there, is gone now")
        elif name in inputs and inputs[name]["sha256"] != content["sha256"]:
            lines.append(f"{name}: has another content now")
    if fixed:
        lines += [f"{name}: new" for name in inputs if name not in known]
    return list(dict.fromkeys(lines))


def _list_differences(differences: Sequence[str], most: int = 10) -> str:
    more = [f"and {len(differences) - most} more"] if len(differences) > most else []
    return "\n".join(f"  {line}" for line in [*differences[:most], *more])


def _advise(shard: Shard | None, changes_key: str | None) -> str:
    if shard is not None:
        return (
            "A shard deletes nothing, since other shards may be running. Set another work_dir, or make all again "
            "without shard and shards and with overwrite=true."
        )
    if changes_key is None:
        return "Set overwrite=true to make them again, or another work_dir to keep them."
    return f"Set overwrite=true to restart, another run=FOLDER to keep it, or {changes_key}=true to go on with it."
