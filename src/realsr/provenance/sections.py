"""The sections of a manifest: read and checked, and written while a stage is at work.

The file may come from elsewhere, so nothing in it is trusted.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from realsr.core.errors import UserError
from realsr.core.files import inside, looks_lost, parse_json, replace_file, sync_files
from realsr.provenance.fingerprints import fingerprint_file
from realsr.provenance.migrations import Section, migrate

logger = logging.getLogger("realsr")

MANIFEST = "manifest.json"
SAVE_INTERVAL = 1.0  # seconds; what a killed run did since the last save is done again
SMALL = 2**16  # bytes; a file up to this size is compared by its hash each time
_TYPES = {
    "format": int, "config": dict, "seed": int | None, "versions": dict, "inputs": dict, "files": dict, "items": dict,
    "notes": dict, "complete": bool,
}  # fmt: skip
_INVALID = (ValueError, TypeError, KeyError, AttributeError)


def read_sections(path: Path) -> dict[str, Section]:
    """Return a manifest's sections by stage; none where there is no file, or a lost one.

    Raises UserError for a file of another form.
    """
    if not path.is_file() or is_lost(path):
        return {}
    try:
        manifest = parse_json(path.read_bytes())
        for stage, section in manifest.items():
            _check_section(stage, section)
    except _INVALID as error:
        raise UserError(
            f"{path}: not a manifest of this program ({_reason(error)}); remove it to start again"
        ) from error
    return manifest


def is_lost(path: Path) -> bool:
    """Return whether a manifest holds nothing but zeros, as after a power cut before this program synced its files."""
    if any(path.read_bytes()):
        return False
    logger.warning("%s: empty, as after a power cut: its items are made again", path)
    return True


def list_shard_manifests(folder: Path, stage: str) -> list[Path]:
    """Return the manifests that a stage's shards have left in a folder, sorted."""
    return sorted(folder.glob(f"manifest.{stage}.shard*of*.json"))


def read_parts(
    folder: Path, stage: str, check_item: Callable[[dict[str, Any]], object]
) -> dict[str, Section]:
    """Return the stage's section and those of its shards by file name, without sections that have no items.

    Raises UserError for an item that is not the stage's, or whose files lie outside of the folder.
    """
    parts = {}
    for path in [folder / MANIFEST, *list_shard_manifests(folder, stage)]:
        section = read_sections(path).get(stage)
        if section is None or not section["items"]:
            continue
        for name, item in section["items"].items():
            try:
                for relative in item["files"]:
                    inside(folder, relative)
                check_item(item)
            except _INVALID as error:
                raise UserError(
                    f"{path}: its item {name} cannot be used ({_reason(error)}). Nothing was changed. Do not "
                    "use a folder from elsewhere whose manifest names such files; set another work_dir"
                ) from error
        parts[path.name] = migrate(stage, section)
    return parts


class StageRecord:
    """One stage's section of a manifest. Get one from `manifest.open_stage`.

    Attributes:
        items: per item, its `files` (relative path -> size and sha256) and what the stage records of it.
        notes: what the stage records of all items; a change of it is no difference.
        section: all that the manifest holds of the stage.
    """

    def __init__(
        self,
        folder: Path,
        stage: str,
        section: dict[str, Any],
        file: str,
        other_items: Mapping[str, dict[str, Any]],
        before: dict[str, Any],
    ):
        self.folder, self.stage, self.section, self._file = folder, stage, section, file
        self.items: dict[str, dict[str, Any]] = section["items"]
        self.notes: dict[str, Any] = section["notes"]
        self._other_items = other_items  # made by other shards or an earlier call
        self._before = before  # what the section was before it was opened
        self._failures: dict[str, str] = {}
        self._unsynced: list[Path] = []
        self._saved = 0.0

    @property
    def complete(self) -> bool:
        """Whether the stage was finished, without failures."""
        return self.section["complete"]

    def is_done(self, name: str) -> bool:
        """Return whether the item is recorded and its files are as they were written.

        They are compared by size; the small ones, and those that `looks_lost` doubts, by SHA-256 as well.
        """
        item = self.items.get(name) or self._other_items.get(name)
        return item is not None and all(
            _is_whole(self.path(relative), content) for relative, content in item["files"].items()
        )

    def path(self, relative: str) -> Path:
        """Return where a file of an item is. Raises UserError where that is outside of the folder."""
        try:
            return inside(self.folder, relative)
        except ValueError as error:
            raise UserError(
                f"{self.folder / self._file}: {error}; remove the link, or set another folder"
            ) from error

    def add(self, name: str, files: Iterable[Path], **facts: Any) -> None:
        """Record an item whose files have been written, and facts about it.

        The files may be written without `sync`: they are synced before the manifest names them.
        """
        contents = {
            path.relative_to(self.folder).as_posix(): fingerprint_file(path) for path in files
        }
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
            contents[f"{subfolder}/{old.name}"] = content
            self._unsynced.append(new)
        self.items[name]["files"] = contents

    def fail(self, name: str, source: str, path: Path, error: Exception) -> None:
        """Note that an item cannot be made from the file of the input named `source`; the others still are."""
        self._failures[name] = str(error) if path.name in str(error) else f"{path}: {error}"
        self.section["inputs"].pop(source, None)

    def reset(self) -> None:
        """Empty the section, so that the next run restarts."""
        self._unsynced.clear()
        self.items.clear()
        self.section["inputs"].clear()

    def rollback(self) -> None:
        """Restore the section as it was before it was opened."""
        self._unsynced.clear()
        self.section.update(self._before)
        self.items, self.notes = self.section["items"], self.section["notes"]

    def list_failures(self) -> str:
        """Return why items failed, each on a line of its own; empty where none did."""
        return "".join(f"\n  {reason}" for reason in self._failures.values())

    def finish(self) -> None:
        """Mark the stage as complete, or raise UserError with the list of what failed."""
        if self._failures:
            raise UserError(
                f"{self.stage}: {len(self._failures)} of {len(self._failures) + len(self.items)} could not be done:"
                f"{self.list_failures()}\nThe others are done and kept. Repair or remove these files, then repeat "
                "the command."
            )
        self.section["complete"] = True

    def save(self) -> None:
        """Write the section into its manifest, atomically; wait while another stage writes the same file."""
        sync_files(self._unsynced)
        self._unsynced.clear()
        path = self.folder / self._file
        with replace_file(path) as file:
            manifest = read_sections(path)
            manifest[self.stage] = self.section
            file.write(json.dumps(manifest, indent=1).encode())
        self._saved = time.monotonic()


def _check_section(stage: str, content: Section) -> None:
    """Raise one of _INVALID where a section is not of the form that is written."""
    section: Section = {"format": 1, "files": {}, "notes": {}}
    section |= content
    for key, kind in _TYPES.items():
        if not isinstance(section[key], kind):
            raise TypeError(f"{stage}: {key} is of another type")
    files = [*section["inputs"].values(), *section["files"].values()]
    for file in [
        *files,
        *(file for item in section["items"].values() for file in item["files"].values()),
    ]:
        if not isinstance(file["sha256"], str) or not isinstance(file["size"], int):
            raise TypeError(f"{stage}: a file has no size and hash")


def _reason(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _is_whole(path: Path, content: Mapping[str, Any]) -> bool:
    if not path.is_file() or path.stat().st_size != content["size"]:
        return False
    in_doubt = content["size"] <= SMALL or looks_lost(path)
    return not in_doubt or fingerprint_file(path)["sha256"] == content["sha256"]
