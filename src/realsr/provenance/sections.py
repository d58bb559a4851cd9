"""The sections of a manifest, read and checked. The file may come from elsewhere, so nothing in it is trusted."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from realsr.core.errors import UserError
from realsr.core.files import inside, parse_json
from realsr.provenance.migrations import Section, migrate

logger = logging.getLogger("realsr")

MANIFEST = "manifest.json"
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


def read_parts(folder: Path, stage: str, check_item: Callable[[dict[str, Any]], object]) -> dict[str, Section]:
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


def _check_section(stage: str, content: Section) -> None:
    """Raise one of _INVALID where a section is not of the form that is written."""
    section: Section = {"format": 1, "files": {}, "notes": {}}
    section |= content
    for key, kind in _TYPES.items():
        if not isinstance(section[key], kind):
            raise TypeError(f"{stage}: {key} is of another type")
    files = [*section["inputs"].values(), *section["files"].values()]
    for file in [*files, *(file for item in section["items"].values() for file in item["files"].values())]:
        if not isinstance(file["sha256"], str) or not isinstance(file["size"], int):
            raise TypeError(f"{stage}: a file has no size and hash")


def _reason(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)
