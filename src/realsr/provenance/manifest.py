"""The manifest of a stage: its provenance and progress.

Each stage writes one folder and keeps a section of that folder's `manifest.json`: config, seed,
package versions, inputs with content hashes, and per item its files and their origin. The section
tells a repeated command which items exist, an interrupted command where to resume, and a command
with another config what differs. If the items are divided into shards, each shard writes its part
of the section to its own file. A call for all items merges these files.
"""

import copy
import json
import logging
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from realsr.core.errors import UserError
from realsr.core.files import hold_lock, inside, remove_leftovers
from realsr.provenance.fingerprints import fingerprint_inputs, package_versions
from realsr.provenance.migrations import FORMAT, Section, migrate
from realsr.provenance.sections import (
    MANIFEST,
    STAGE_FILES,
    StageRecord,
    is_lost,
    list_shard_manifests,
    read_parts,
    read_sections,
)

logger = logging.getLogger("realsr")

MAX_LINES = 10  # of differences in a message


@dataclass(frozen=True)
class StageRules:
    """Properties of a stage that do not depend on its config.

    allow_new_inputs: an unfinished stage may get more inputs, because its items are independent.
    owned_paths: other files and folders in the stage's folder that `overwrite` deletes.
    changes_key, allow_changes: for a stage that can continue with another config or other inputs,
        the config key that allows this, and its value. Differences are then logged, and the new
        config is recorded.
    wait: wait for another process that runs the stage, or raise UserError.
    """

    allow_new_inputs: bool = True
    owned_paths: Sequence[str] = ()
    changes_key: str | None = None
    allow_changes: bool = False
    wait: bool = True


@dataclass(frozen=True)
class Shard:
    """The items index, index + count, index + 2 count, … of a sorted list, for one process."""

    index: int
    count: int


def take_shard(names: Iterable[str], shard: Shard | None) -> list[str]:
    """Return the names of a shard's items in their order; all names without a shard."""
    names = list(names)
    return names if shard is None else names[shard.index :: shard.count]


def choose_shard(index: int | None, count: int | None) -> Shard | None:
    """Return the shard of the config keys `shard` and `shards`, None for all items.

    Raises UserError if only one key is set or the index is out of range.
    """
    if index is None and count is None:
        return None
    if index is None or count is None or not 0 <= index < count:
        raise UserError(
            f"shard={index} shards={count}: set both, with shard from 0 to shards - 1, "
            "e.g. shard=0 shards=8; to run all shards, use -m 'shard=range(8)' shards=8"
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
    """Open the record of a stage that writes to `folder`. It is saved at the end, even on errors.

    Args:
        seed: None if the stage is deterministic.
        inputs: name -> file, e.g. "source/0001.png". Files of unchanged size and
            time are not read again.
        files: key of `config` -> the file that its value names. Values are equal if the contents of
            their files are.
        overwrite: if the recorded config, seed or inputs differ, delete the stage's files and
            restart instead of raising UserError.
        shard: process only this shard of `inputs`, with its own manifest. Shards may run in
            parallel.
        check_item: raises KeyError, TypeError or ValueError if a recorded item is invalid.

    Raises:
        UserError: if the record differs, or the manifest is invalid or lists files outside
            `folder`. Nothing is deleted then.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(
            f"{folder}: a file prevents creating this folder; set another work_dir or move it"
        ) from error
    file = MANIFEST if shard is None else f"manifest.{stage}.shard{shard.index}of{shard.count}.json"
    with _hold_locks(folder, stage, file, rules.wait):
        parts = read_parts(folder, stage, check_item)
        remove_leftovers(folder)
        shard_inputs = {name: inputs[name] for name in take_shard(inputs, shard)}
        request = {
            "format": FORMAT,
            "config": json.loads(json.dumps(dict(config), default=str)),
            "seed": seed,
            "versions": package_versions(),
            "inputs": fingerprint_inputs(shard_inputs, _merge(parts.values(), "inputs")),
            "files": fingerprint_inputs(files or {}, _merge(parts.values(), "files")),
        }
        unreadable = shard_inputs.keys() - request["inputs"].keys()
        differences = _find_differences(parts, request, inputs.keys() - unreadable, rules)
        if differences and overwrite and shard is None:
            _delete(folder, parts, rules.owned_paths)
            parts = {}
        before = copy.deepcopy(parts.get(MANIFEST, {"inputs": {}, "items": {}}))
        if differences and parts:
            parts = _accept(differences, folder, stage, parts, shard, rules)
        record = _open_record(folder, stage, file, request, parts, before)
        initial = json.dumps(record.section)
        try:
            yield record
        finally:
            if json.dumps(record.section) != initial:
                record.save()


def lock_stage(folder: Path, stage: str, wait: bool) -> AbstractContextManager[None]:
    """Hold the lock of a stage in its folder, which must exist. wait: see `hold_lock`."""
    advice = "Wait until it ends, stop it, or set another folder."
    return hold_lock(folder / f".{stage}.lock", f"{folder}: {stage}", wait, advice)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a folder's manifest, stage -> section; empty if the folder has none.

    Raises UserError if the file is not a manifest.
    """
    return {
        stage: migrate(stage, section)
        for stage, section in read_sections(folder / MANIFEST).items()
    }


def is_foreign(folder: Path, stage: str) -> bool:
    """Return whether a folder holds a stage's files without a manifest: made elsewhere."""
    manifest = folder / MANIFEST
    has_loss = manifest.is_file() and is_lost(manifest)
    if has_loss or stage in read_sections(manifest) or list_shard_manifests(folder, stage):
        return False
    return next(folder.glob(STAGE_FILES[stage]), None) is not None


def refuse_foreign(folder: Path, stage: str) -> None:
    """Raise UserError if a folder holds a stage's files that were made elsewhere."""
    if is_foreign(folder, stage):
        raise UserError(
            f"{folder}: holds {stage} that were made elsewhere ({STAGE_FILES[stage]} without a "
            "manifest). realsr.train uses them unchanged. To make new ones, move them or set another work_dir."
        )


def name_inputs(kind: str, paths: Sequence[Path]) -> dict[str, Path]:
    """Name input files for a manifest: {"source/0001.png": path}."""
    return {f"{kind}/{path.name}": path for path in paths}


def compare_value(
    section: Section, key: str, value: object, files: Mapping[str, Any]
) -> str | None:
    """Return how a value of a section's config differs from the new value, None if it does not.

    Files are compared by content, regardless of their paths. A missing key equals None.
    files: fingerprints of the files that values of the new config name, by key.
    """
    old, old_file = section["config"].get(key, "unset"), section.get("files", {}).get(key)
    file = files.get(key)
    if key == "init":  # earlier versions recorded only this file, in the notes
        old_file = old_file or section.get("notes", {}).get("init")
    if old in ("unset", None) and value in ("unset", None):
        return None
    same_content = old_file and file and old_file["sha256"] == file["sha256"]
    if old == value and old_file and file and not same_content:
        return f"{key}: content of {value} changed"
    return None if old == value or same_content else f"{key}: was {old}, now {value}"


@contextmanager
def _hold_locks(folder: Path, stage: str, file: str, wait: bool) -> Iterator[None]:
    """Hold the lock of a stage or of one of its shards.

    A stage waits for all its shards, a shard for a call without shards.
    """
    with ExitStack() as locks:
        locks.enter_context(lock_stage(folder, stage, wait))
        if file != MANIFEST:
            with lock_stage(folder, file, wait):
                locks.close()  # let other shards start
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
    """Return the record of a request, with the items of `parts`. file: its manifest."""
    sections = {name: part for name, part in parts.items() if file in (name, MANIFEST)}
    old = sections[file] if sections.keys() == {file} else None
    section = dict(request)
    for key in ("inputs", "files", "items", "notes"):
        section[key] = _merge(sections.values(), key) | request.get(key, {})
    section["complete"] = old is not None and old["complete"]
    other_items = _merge((part for name, part in parts.items() if name not in sections), "items")
    record = StageRecord(folder, stage, section, file, other_items, before)
    # Saved now, so that a killed run leaves no files without a manifest, and that inputs with only
    # a new modification time are not read again.
    if old is None or any(section[key] != old.get(key, {}) for key in ("inputs", "files")):
        record.save()
    if file == MANIFEST:
        for path in list_shard_manifests(folder, stage):
            path.unlink()
    return record


def _merge(sections: Iterable[Section], key: str) -> dict[str, Any]:
    """Merge one key's mapping of several sections."""
    return {name: value for section in sections for name, value in section.get(key, {}).items()}


def _delete(folder: Path, parts: Mapping[str, Section], owned_paths: Sequence[str]) -> None:
    for item in (item for part in parts.values() for item in part["items"].values()):
        for relative in item["files"]:
            inside(folder, relative).unlink(missing_ok=True)
    for path in (folder / name for name in owned_paths):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _accept(
    differences: list[str],
    folder: Path,
    stage: str,
    parts: Mapping[str, Section],
    shard: Shard | None,
    rules: StageRules,
) -> dict[str, Section]:
    """Return sections that accept a request with differences, and note these.

    Raises UserError unless the rules allow changes.
    """
    extra = len(differences) - MAX_LINES
    lines = [*differences[:MAX_LINES], *([f"and {extra} more"] if extra > 0 else [])]
    text = "\n".join(f"  {line}" for line in lines)
    if not rules.allow_changes:
        raise UserError(
            f"{folder}: {stage} has another configuration or other inputs:\n"
            f"{text}\n{_advise(shard, rules.changes_key)}"
        )
    logger.warning("%s: %s continues with changes:\n%s", folder, stage, text)
    sections = {}
    for name, part in parts.items():
        changes = [*part["notes"].get("changes", []), differences]
        notes = part["notes"] | {"changes": changes}
        sections[name] = part | {"inputs": {}, "complete": False, "notes": notes}
    return sections


def _find_differences(
    parts: Mapping[str, Section], request: Section, present: Collection[str], rules: StageRules
) -> list[str]:
    """Return the differences between the sections of a stage and a request, one line each.

    present: names of all existing inputs; those of the request may be only a shard's.
    """
    config, seed, inputs = request["config"], request["seed"], request["inputs"]
    lines = []
    for old in parts.values():
        lines += [] if old["seed"] == seed else [f"seed: was {old['seed']}, now {seed}"]
        keys = old["config"].keys() | config.keys()
        # Common keys first, because the other keys follow from them, as options do from a method.
        common = old["config"].keys() & config.keys()
        for key in [*sorted(common), *sorted(keys - common)]:
            if difference := compare_value(old, key, config.get(key, "unset"), request["files"]):
                lines.append(difference)
    old_inputs = _merge(parts.values(), "inputs")
    for name, content in old_inputs.items():
        if name not in present:
            lines.append(f"{name}: missing now")
        elif name in inputs and inputs[name]["sha256"] != content["sha256"]:
            lines.append(f"{name}: content changed")
    if MANIFEST in parts and (parts[MANIFEST]["complete"] or not rules.allow_new_inputs):
        lines += [f"{name}: new" for name in inputs if name not in old_inputs]
    return list(dict.fromkeys(lines))


def _advise(shard: Shard | None, changes_key: str | None) -> str:
    if shard is not None:
        return (
            "A shard deletes nothing, because other shards may be running. "
            "Set another work_dir, or restart with overwrite=true and without shard and shards."
        )
    if changes_key is None:
        return "Set overwrite=true to restart, or another work_dir to keep them."
    return (
        "Set overwrite=true to restart, another run=FOLDER to keep this run, "
        f"or {changes_key}=true to continue it with the changes."
    )
