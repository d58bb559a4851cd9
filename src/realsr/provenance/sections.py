"""Read, check and write the sections of a manifest.

A manifest may come from elsewhere, so its content is not trusted.
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
STAGE_FILES = {
    "kernels": "kernels/**/*.mat",
    "noise": "noise/**/*.png",
    "noise_model": "noise_model.json",
    "jpeg_tables": "jpeg_tables.json",
    "pairs": "HR/*",
}
"""Glob of the files in a stage's folder, by which work made elsewhere is known."""
SAVE_INTERVAL = 1.0  # seconds; a killed run repeats its work since the last save
SMALL = 2**16  # bytes; files up to this size are always compared by hash
_TYPES = {
    "format": int, "config": dict, "seed": int | None, "versions": dict, "inputs": dict,
    "files": dict, "items": dict, "notes": dict, "complete": bool,
}  # fmt: skip
_INVALID = (ValueError, TypeError, KeyError, AttributeError)


def read_sections(path: Path) -> dict[str, Section]:
    """Return a manifest's sections by stage; none if the file is missing or lost (`is_lost`).

    Raises UserError if the file is not a manifest.
    """
    if not path.is_file() or is_lost(path):
        return {}
    try:
        manifest = parse_json(path.read_bytes())
        for stage, section in manifest.items():
            _check_section(stage, section)
    except _INVALID as error:
        raise UserError(
            f"{path}: not a manifest of this program ({_describe(error)}); remove it to start again"
        ) from error
    return manifest


def is_lost(path: Path) -> bool:
    """Return whether a manifest is empty or contains only zeros, as after a power cut."""
    if any(path.read_bytes()):
        return False
    logger.warning("%s: empty or zeroed, as after a power cut; its items are made again", path)
    return True


def list_shard_manifests(folder: Path, stage: str) -> list[Path]:
    """Return the manifests of a stage's shards in a folder, sorted."""
    return sorted(folder.glob(f"manifest.{stage}.shard*of*.json"))


def read_parts(
    folder: Path, stage: str, check_item: Callable[[dict[str, Any]], object]
) -> dict[str, Section]:
    """Return the sections of a stage and of its shards that have items, by file name.

    Raises UserError for an item of another form, or with files outside the folder.
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
                    f"{path}: its item {name} cannot be used ({_describe(error)}). "
                    "Nothing was changed. If the folder comes from elsewhere, do not use it; set another work_dir"
                ) from error
        parts[path.name] = migrate(stage, section)
    return parts


class StageRecord:
    """A stage's section of a manifest, opened by `manifest.open_stage`.

    Attributes:
        items: per item, its `files` (relative path -> size and sha256) and facts of the stage.
        notes: facts of the stage about all items. They are not compared with the config.
        section: the whole section.
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
        self._other_items = other_items  # of other shards or an earlier call
        self._before = before  # the section before it was opened
        self._failures: dict[str, str] = {}
        self._pending_sync: list[Path] = []
        self._save_time = 0.0

    @property
    def complete(self) -> bool:
        """Whether the stage is finished without failures."""
        return self.section["complete"]

    def has_item(self, name: str) -> bool:
        """Return whether an item is recorded and its files are intact.

        Files are compared by size; small files and those that `looks_lost` also by SHA-256.
        """
        item = self.items.get(name) or self._other_items.get(name)
        return item is not None and all(
            _is_intact(self.path(path), content) for path, content in item["files"].items()
        )

    def path(self, relative: str) -> Path:
        """Return the path of an item's file. Raises UserError if it is outside the folder."""
        try:
            return inside(self.folder, relative)
        except ValueError as error:
            raise UserError(
                f"{self.folder / self._file}: {error}; remove the link, or set another folder"
            ) from error

    def add(self, name: str, files: Iterable[Path], **facts: Any) -> None:
        """Record an item with its files, which must exist, and facts about it.

        The files need not be synced; `save` syncs them before it writes the manifest.
        """
        contents = {
            path.relative_to(self.folder).as_posix(): fingerprint_file(path) for path in files
        }
        self._pending_sync += map(self.path, contents)
        self.items[name] = {"files": contents, **facts}
        if time.monotonic() - self._save_time > SAVE_INTERVAL:
            self.save()

    def move(self, name: str, subfolder: str) -> None:
        """Move the files of an item to a subfolder of the stage's folder."""
        (self.folder / subfolder).mkdir(exist_ok=True)
        contents = {}
        for relative, content in self.items[name]["files"].items():
            old = self.path(relative)
            new = self.path(f"{subfolder}/{old.name}")
            old.replace(new)
            contents[f"{subfolder}/{old.name}"] = content
            self._pending_sync.append(new)
        self.items[name]["files"] = contents

    def fail(self, name: str, source: str, path: Path, error: Exception) -> None:
        """Record that an item failed with an error on the file of the input `source`."""
        self._failures[name] = str(error) if path.name in str(error) else f"{path}: {error}"
        self.section["inputs"].pop(source, None)

    def reset(self) -> None:
        """Empty the section, so that the next run restarts."""
        self._pending_sync.clear()
        self.items.clear()
        self.section["inputs"].clear()

    def rollback(self) -> None:
        """Restore the section to its state before it was opened."""
        self._pending_sync.clear()
        self.section.update(self._before)
        self.items, self.notes = self.section["items"], self.section["notes"]

    def list_failures(self) -> str:
        """Return the reasons of failures, one per line; empty if there are none."""
        return "".join(f"\n  {reason}" for reason in self._failures.values())

    def finish(self) -> None:
        """Mark the stage as complete, or raise UserError with the list of failures."""
        if self._failures:
            count, total = len(self._failures), len(self._failures) + len(self.items)
            raise UserError(
                f"{self.stage}: {count} of {total} failed:{self.list_failures()}\n"
                "The others are complete. Repair or remove these files, then repeat the command."
            )
        self.section["complete"] = True

    def save(self) -> None:
        """Write the section to its manifest atomically; wait while another process writes it."""
        sync_files(self._pending_sync)
        self._pending_sync.clear()
        path = self.folder / self._file
        with replace_file(path) as file:
            manifest = read_sections(path)
            manifest[self.stage] = self.section
            file.write(json.dumps(manifest, indent=1).encode())
        self._save_time = time.monotonic()


def _check_section(stage: str, content: Section) -> None:
    """Raise one of _INVALID if a section does not have the form that `save` writes."""
    section: Section = {"format": 1, "files": {}, "notes": {}}
    section |= content
    for key, kind in _TYPES.items():
        if not isinstance(section[key], kind):
            raise TypeError(f"{stage}: {key} has another type than expected")
    files = [*section["inputs"].values(), *section["files"].values()]
    for item in section["items"].values():
        files += item["files"].values()
    for file in files:
        if not isinstance(file["sha256"], str) or not isinstance(file["size"], int):
            raise TypeError(f"{stage}: a file has no valid size and hash")


def _describe(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _is_intact(path: Path, content: Mapping[str, Any]) -> bool:
    if not path.is_file() or path.stat().st_size != content["size"]:
        return False
    is_doubtful = content["size"] <= SMALL or looks_lost(path)
    return not is_doubtful or fingerprint_file(path)["sha256"] == content["sha256"]
