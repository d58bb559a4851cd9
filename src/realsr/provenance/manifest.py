"""What a stage leaves behind: provenance, and what is already done.

Each stage writes one folder and keeps a section of that folder's `manifest.json`: config, seed, package versions,
inputs with content hashes, and per item its files and where they came from. From the section a repeated command
knows what is done, an interrupted one where to go on, and a changed one what differs. Where the items are shared out
among shards, each shard keeps its part of the section in a file of its own; a call for all items takes them in.
"""

import json
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from realsr.core.errors import UserError
from realsr.core.file_lock import hold_lock
from realsr.core.files import inside, remove_leftovers
from realsr.provenance.differences import explain_differences, find_differences, list_differences
from realsr.provenance.fingerprints import fingerprint_inputs, package_versions
from realsr.provenance.migrations import FORMAT, migrate
from realsr.provenance.sections import MANIFEST, is_lost, read_parts, read_sections
from realsr.provenance.shards import Shard, list_shard_manifests
from realsr.provenance.stage_record import StageRecord

logger = logging.getLogger("realsr")


@dataclass(frozen=True)
class StageRules:
    """What holds for a stage, whatever it is asked to make.

    allow_new_inputs: an unfinished stage may take more inputs, since each of its items stands for itself.
    owned_paths: files and folders in the stage's folder that are deleted with its items where it begins anew.
    changes_key, allow_changes: for a stage that can go on with what it made under another config or from other inputs:
        the key that allows it, and whether it is allowed. Differences are shown then, and the record is of what is
        asked now.
    wait: where another process is at work on the stage, wait for it (shards work side by side), or raise UserError.
    """

    allow_new_inputs: bool = True
    owned_paths: Sequence[str] = ()
    changes_key: str | None = None
    allow_changes: bool = False
    wait: bool = True


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
    """Open the record of a stage that writes into `folder`, and save it whatever happens inside the `with`.

    seed: None where the stage leaves nothing to chance. inputs: name -> file, e.g. "source/0001.png"; files of a
    known size and time are not read again. Raises UserError if the stage was run here with another config, seed or
    other inputs and `overwrite` is not given; with it, the files that the section lists are deleted, and the stage
    begins anew.

    files: key of `config` -> the file that its value names. Such values are equal where the files' contents are.

    shard: do only these of the `inputs`, in a file of the shard's own, so that several may run at a time. Without it
    the parts that shards have left are taken in, and their files removed.

    check_item: raises KeyError, TypeError or ValueError for a recorded item that lacks what the stage recorded.

    A manifest is not trusted: UserError names one whose content is of another form, or whose files lie outside of
    `folder`, before anything is deleted.
    """
    _make_folder(folder)
    file = MANIFEST if shard is None else shard.manifest(stage)
    with ExitStack() as locks:
        locks.enter_context(lock_stage(folder, stage, rules.wait, shared=shard is not None))
        if shard is not None:
            locks.enter_context(lock_stage(folder, file, rules.wait))
        parts = read_parts(folder, stage, check_item)
        remove_leftovers(folder)
        own_inputs = inputs if shard is None else {name: inputs[name] for name in shard.take(list(inputs))}
        request = {
            "format": FORMAT,
            "config": json.loads(json.dumps(dict(config), default=str)),
            "seed": seed,
            "versions": package_versions(),
            "inputs": fingerprint_inputs(own_inputs, _merge(parts.values(), "inputs")),
            "files": fingerprint_inputs(files or {}, _merge(parts.values(), "files")),
        }
        readable = inputs.keys() - (own_inputs.keys() - request["inputs"].keys())
        fixed = MANIFEST in parts and (parts[MANIFEST]["complete"] or not rules.allow_new_inputs)
        before = json.dumps(parts.get(MANIFEST))
        if differences := find_differences(parts.values(), request, readable, fixed):
            parts = _resolve(folder, stage, parts, differences, overwrite, shard is not None, rules)
        record = _open_record(folder, stage, file, request, parts, before if MANIFEST in parts else None)
        opened = json.dumps(record.section)
        try:
            yield record
        finally:
            if json.dumps(record.section) != opened:
                record.save()


def lock_stage(folder: Path, stage: str, wait: bool, shared: bool = False) -> AbstractContextManager[None]:
    """Hold the lock of a stage in its folder, which must exist; arguments as in `hold_lock`."""
    advice = "Wait until it ends, stop it, or set another folder."
    return hold_lock(folder / f".{stage}.lock", f"{folder}: {stage}", wait, shared, advice)


def _resolve(
    folder: Path,
    stage: str,
    parts: dict[str, dict[str, Any]],
    differences: list[str],
    overwrite: bool,
    sharded: bool,
    rules: StageRules,
) -> dict[str, dict[str, Any]]:
    """Return the sections to go on from where those that are there differ from what is asked; or raise UserError."""
    if overwrite and not sharded:
        _delete(folder, parts, rules.owned_paths)
        return {}
    if not rules.allow_changes:
        raise UserError(explain_differences(folder, stage, differences, sharded, rules.changes_key))
    logger.warning("%s: %s goes on with changes:\n%s", folder, stage, list_differences(differences))
    return {name: _changed(part, differences) for name, part in parts.items()}


def _open_record(
    folder: Path,
    stage: str,
    file: str,
    request: dict[str, Any],
    parts: dict[str, dict[str, Any]],
    before: str | None,
) -> StageRecord:
    """Return the record of what is asked, with what there is of it; file: the manifest that it is saved in."""
    own = parts if file == MANIFEST else {name: part for name, part in parts.items() if name == file}
    merged = {key: _merge(own.values(), key) | request.get(key, {}) for key in ("inputs", "files", "items", "notes")}
    section = request | merged | {"complete": own.keys() == {file} and own[file]["complete"]}
    other_items = _merge((part for name, part in parts.items() if name not in own), "items")
    record = StageRecord(folder, stage, section, file, other_items, before)
    # At once, so that a run killed at any moment leaves no file that no manifest tells of, and that inputs which were
    # only touched are not read a third time.
    if own.keys() != {file} or any(section[key] != own[file].get(key, {}) for key in ("inputs", "files")):
        record.save()
    if file == MANIFEST:
        for path in list_shard_manifests(folder, stage):
            path.unlink()
    return record


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a folder's manifest, stage -> section; empty where the folder has none.

    Raises UserError where the file is not a manifest.
    """
    return {stage: migrate(stage, section) for stage, section in read_sections(folder / MANIFEST).items()}


def _merge(sections: Iterable[dict[str, Any]], key: str) -> dict[str, Any]:
    """Put one key's mapping of several sections together."""
    merged: dict[str, Any] = {}
    for section in sections:
        merged |= section.get(key, {})
    return merged


def is_foreign(folder: Path, stage: str, pattern: str) -> bool:
    """Whether a folder holds files (glob) of a stage that its manifest does not tell of: made elsewhere."""
    manifest = folder / MANIFEST
    lost = manifest.is_file() and is_lost(manifest)
    known = lost or stage in read_sections(manifest) or list_shard_manifests(folder, stage)
    return not known and next(folder.glob(pattern), None) is not None


def refuse_foreign(folder: Path, stage: str, pattern: str) -> None:
    """Raise UserError rather than mix a stage's files with others that were put there by hand."""
    if is_foreign(folder, stage, pattern):
        raise UserError(
            f"{folder}: holds {stage} that were made elsewhere ({pattern} without a manifest). realsr.train uses them "
            "as they are; to make new ones move them away or choose another work_dir."
        )


def name_inputs(kind: str, paths: Sequence[Path]) -> dict[str, Path]:
    """Name input files for a manifest: {"source/0001.png": path}."""
    return {f"{kind}/{path.name}": path for path in paths}


def _delete(folder: Path, parts: Mapping[str, dict[str, Any]], owned_paths: Sequence[str]) -> None:
    for part in parts.values():
        for relative in (relative for item in part["items"].values() for relative in item["files"]):
            inside(folder, relative).unlink(missing_ok=True)
    for path in (folder / name for name in owned_paths):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _changed(part: dict[str, Any], differences: list[str]) -> dict[str, Any]:
    """Return a section that is to go on under what is asked now, with a note of what differs."""
    notes = part["notes"] | {"changes": [*part["notes"].get("changes", []), differences]}
    return part | {"inputs": {}, "complete": False, "notes": notes}


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"{folder}: a file is in the way; choose another work_dir or move that file") from error
