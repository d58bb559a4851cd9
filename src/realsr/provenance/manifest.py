"""What a stage leaves behind: provenance, and what is already done.

Each stage writes one folder and keeps a section of that folder's `manifest.json`: config, seed, package versions,
inputs with content hashes, and per item its files and where they came from. From the section a repeated command
knows what is done, an interrupted one where to go on, and a changed one what differs. Where the items are shared out
among shards, each shard keeps its part of the section in a file of its own; a call for all items takes them in.
"""

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from realsr.core.errors import UserError
from realsr.core.file_lock import hold_lock
from realsr.core.files import inside, looks_lost, remove_leftovers, replace_file, sync_files
from realsr.provenance.differences import explain_differences, find_differences, list_differences
from realsr.provenance.fingerprints import fingerprint_file, fingerprint_inputs, package_versions
from realsr.provenance.migrations import FORMAT, migrate
from realsr.provenance.sections import MANIFEST, is_lost, read_parts, read_sections
from realsr.provenance.shards import Shard, list_shard_manifests

logger = logging.getLogger("realsr")
SAVE_INTERVAL = 1.0  # seconds; what a killed run did since the last save is done again
SMALL = 2**16  # bytes; a file up to this size is compared by its hash each time


class StageRecord:
    """One stage's section of a manifest. Get one from `open_stage`.

    Attributes:
        items: per item, its `files` (relative path -> size and sha256) and what the stage tells about it.
        notes: what the stage tells about all of them; a change of it is no difference.
        complete: whether the stage has been finished.
        section: all that the manifest holds of the stage.
    """

    def __init__(
        self,
        folder: Path,
        stage: str,
        section: dict[str, Any],
        file: str,
        elsewhere: Mapping[str, dict[str, Any]],
        before: str | None = None,
    ):
        self._before = before
        self.folder, self.stage, self.section, self._file = folder, stage, section, file
        self.items: dict[str, dict[str, Any]] = section["items"]
        self.notes: dict[str, Any] = section["notes"]
        self._elsewhere = elsewhere  # items that other shards or an earlier call have made
        self._failures: dict[str, str] = {}
        self._unsynced: list[Path] = []
        self._saved = 0.0

    @property
    def complete(self) -> bool:
        """Whether the stage was finished, without failures."""
        return self.section["complete"]

    def is_done(self, name: str) -> bool:
        """Tell whether the item is recorded and its files are as they were written.

        They are compared by size; the small ones, and those that `looks_lost` doubts, by SHA-256 as well.
        """
        item = self.items.get(name) or self._elsewhere.get(name)
        return item is not None and all(
            _is_whole(self.path(relative), content) for relative, content in item["files"].items()
        )

    def path(self, relative: str) -> Path:
        """Return where a file of an item is. Raises UserError where that is outside of the folder."""
        try:
            return inside(self.folder, relative)
        except ValueError as error:
            raise UserError(f"{self.folder / self._file}: {error}; remove the link, or set another folder") from error

    def add(self, name: str, files: Iterable[Path], **facts: Any) -> None:
        """Record an item whose files have been written, and what is worth recording about it.

        The files may be written without `sync`: they are synced before the manifest names them.
        """
        contents = {_relative(path, self.folder): fingerprint_file(path) for path in files}
        self._unsynced += map(self.path, contents)
        self.items[name] = {"files": contents, **facts}
        if time.monotonic() - self._saved > SAVE_INTERVAL:
            self.save()

    def move(self, name: str, subfolder: str) -> None:
        """Move the files of an item to a sub-folder of the stage's folder."""
        (self.folder / subfolder).mkdir(exist_ok=True)
        contents = {}
        for relative, content in self.items[name]["files"].items():
            old = self.path(relative)
            new = self.path(f"{subfolder}/{old.name}")
            old.replace(new)
            contents[_relative(new, self.folder)] = content
            self._unsynced.append(new)
        self.items[name]["files"] = contents

    def fail(self, name: str, source: str, path: Path, error: Exception) -> None:
        """Note that an item cannot be made from the file of the input named `source`; the others still are."""
        self._failures[name] = str(error) if path.name in str(error) else f"{path}: {error}"
        self.section["inputs"].pop(source, None)

    def forget(self) -> None:
        """Take the whole section back, so that the next run begins anew."""
        self._unsynced.clear()
        self.items.clear()
        self.section["inputs"].clear()

    def take_back(self) -> None:
        """Make the section what it was before it was opened; forget it where it is new."""
        if self._before is None:
            self.forget()
        else:
            self._unsynced.clear()
            self.section.update(json.loads(self._before))
            self.items, self.notes = self.section["items"], self.section["notes"]

    def list_failures(self) -> str:
        """Return why items failed, each on a line of its own; empty where none did."""
        return "".join(f"\n  {reason}" for reason in self._failures.values())

    def finish(self) -> None:
        """Mark the stage as complete, or raise UserError with the list of what failed."""
        if self._failures:
            raise UserError(
                f"{self.stage}: {len(self._failures)} of {len(self._failures) + len(self.items)} could not be done:"
                f"{self.list_failures()}\nThe others are done and kept. Mend or remove these files, then repeat the "
                "command."
            )
        self.section["complete"] = True

    def save(self) -> None:
        """Write the section into the folder's manifest, or the shard's part of it into its own, atomically.

        A stage that saves its own section of the same manifest at the same time waits.
        """
        sync_files(self._unsynced)
        self._unsynced.clear()
        path = self.folder / self._file
        with replace_file(path) as file:
            manifest = read_sections(path)
            manifest[self.stage] = self.section
            file.write(json.dumps(manifest, indent=1).encode())
        self._saved = time.monotonic()


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
    growing: bool = True,
    belongings: Sequence[str] = (),
    shard: Shard | None = None,
    changes: tuple[str, bool] | None = None,
    check_item: Callable[[dict[str, Any]], object] = lambda item: None,
    wait: bool = True,
) -> Iterator[StageRecord]:
    """Open the record of a stage that writes into `folder`, and save it whatever happens inside the `with`.

    seed: None where the stage leaves nothing to chance. inputs: name -> file, e.g. "source/0001.png"; files of a
    known size and time are not read again. Raises UserError if the stage was run here with another config, seed or
    other inputs and `overwrite` is not given; with it, the files that the section lists are deleted, and
    `belongings` (files and folders in `folder`), and the stage begins anew. An unfinished stage may take more inputs
    if it is `growing`: each of its items stands for itself.

    files: key of `config` -> the file that its value names. Such values are equal where the files' contents are.

    shard: do only these of the `inputs`, in a file of the shard's own, so that several may run at a time. Without it
    the parts that shards have left are taken in, and their files removed.

    changes: for a stage that can go on with what it made under another config or from other inputs: the key that
    allows it, and whether it is allowed. Differences are shown then, and the record is of what is asked now.

    check_item: raises KeyError, TypeError or ValueError for a recorded item that lacks what the stage recorded.

    wait: where another process is at work on the stage, wait for it (shards work side by side). If False, raise
    UserError.

    A manifest is not trusted: UserError names one whose content is of another form, or whose files lie outside of
    `folder`, before anything is deleted.
    """
    _make_folder(folder)
    with ExitStack() as locks:
        locks.enter_context(lock_stage(folder, stage, wait, shared=shard is not None))
        if shard is not None:
            locks.enter_context(lock_stage(folder, shard.manifest(stage), wait))
        record, before = _open_record(
            folder, stage, config, seed, inputs, files or {}, overwrite, growing, belongings, shard, changes, check_item
        )
        try:
            yield record
        finally:
            if json.dumps(record.section) != before:
                record.save()


def lock_stage(folder: Path, stage: str, wait: bool, shared: bool = False) -> AbstractContextManager[None]:
    """Hold the lock of a stage in its folder, which must exist; arguments as in `hold_lock`."""
    advice = "Wait until it ends, stop it, or set another folder."
    return hold_lock(folder / f".{stage}.lock", f"{folder}: {stage}", wait, shared, advice)


def _open_record(
    folder: Path,
    stage: str,
    config: Mapping[str, Any],
    seed: int | None,
    inputs: Mapping[str, Path],
    files: Mapping[str, Path],
    overwrite: bool,
    growing: bool,
    belongings: Sequence[str],
    shard: Shard | None,
    changes: tuple[str, bool] | None,
    check_item: Callable[[dict[str, Any]], object],
) -> tuple[StageRecord, str]:
    """Open the record as `open_stage` says; return it, and its section as JSON."""
    parts = read_parts(folder, stage, check_item)
    remove_leftovers(folder)
    was = json.dumps(parts.get(MANIFEST))
    facts: dict[str, Any] = json.loads(json.dumps(dict(config), default=str))
    file = MANIFEST if shard is None else shard.manifest(stage)
    known = _merge(parts.values(), "inputs")
    mine = dict(inputs) if shard is None else {name: inputs[name] for name in shard.take(list(inputs))}
    fingerprints = fingerprint_inputs(mine, known)
    fixed = MANIFEST in parts and (parts[MANIFEST]["complete"] or not growing)
    readable = inputs.keys() - (mine.keys() - fingerprints.keys())
    contents = fingerprint_inputs(files, _merge(parts.values(), "files"))
    if differences := find_differences(parts.values(), facts, seed, fingerprints, readable, fixed, contents):
        if overwrite and shard is None:
            _delete(folder, parts, belongings)
            parts = {}
        elif changes is not None and changes[1]:
            logger.warning("%s: %s goes on with changes:\n%s", folder, stage, list_differences(differences))
            parts = {name: _changed(part, differences) for name, part in parts.items()}
        else:
            key = None if changes is None else changes[0]
            raise UserError(explain_differences(folder, stage, differences, sharded=shard is not None, changes=key))
    old = parts if shard is None else {name: part for name, part in parts.items() if name == file}
    section = {
        "format": FORMAT,
        "config": facts,
        "seed": seed,
        "versions": package_versions(),
        "inputs": _merge(old.values(), "inputs") | fingerprints,
        "files": _merge(old.values(), "files") | contents,
        "items": _merge(old.values(), "items"),
        "notes": _merge(old.values(), "notes"),
        "complete": old.keys() == {file} and old[file]["complete"],
    }
    elsewhere = _merge((part for name, part in parts.items() if name not in old), "items")
    record = StageRecord(folder, stage, section, file, elsewhere, before=was if MANIFEST in parts else None)
    # At once, so that a run killed at any moment leaves no file that no manifest tells of, and that inputs which were
    # only touched are not read a third time.
    if old.keys() != {file} or any(section[key] != old[file].get(key, {}) for key in ("inputs", "files")):
        record.save()
    if shard is None:
        for path in list_shard_manifests(folder, stage):
            path.unlink()
    return record, json.dumps(section)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a folder's manifest, stage -> section; empty where the folder has none.

    Raises UserError where the file is not a manifest.
    """
    return {stage: migrate(stage, section) for stage, section in read_sections(folder / MANIFEST).items()}


def _is_whole(path: Path, content: Mapping[str, Any]) -> bool:
    """Tell whether a file is the recorded one, as far as that is known without reading large files whole."""
    if not path.is_file() or path.stat().st_size != content["size"]:
        return False
    doubt = content["size"] <= SMALL or looks_lost(path)
    return not doubt or fingerprint_file(path)["sha256"] == content["sha256"]


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


def _delete(folder: Path, parts: Mapping[str, dict[str, Any]], belongings: Sequence[str]) -> None:
    for part in parts.values():
        for relative in (relative for item in part["items"].values() for relative in item["files"]):
            inside(folder, relative).unlink(missing_ok=True)
    for name in belongings:
        _remove(folder / name)


def _changed(part: dict[str, Any], differences: list[str]) -> dict[str, Any]:
    """Return a section that is to go on under what is asked now, with a note of what differs."""
    notes = part["notes"] | {"changes": [*part["notes"].get("changes", []), differences]}
    return part | {"inputs": {}, "complete": False, "notes": notes}


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"{folder}: a file is in the way; choose another work_dir or move that file") from error


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
