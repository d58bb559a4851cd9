"""The sections of a manifest, read and checked. The file may come from elsewhere, so nothing in it is trusted."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from realsr.core.errors import UserError
from realsr.core.files import inside, parse_json
from realsr.provenance.migrations import migrate
from realsr.provenance.shards import list_shard_manifests

logger = logging.getLogger("realsr")

MANIFEST = "manifest.json"


def read_sections(path: Path) -> dict[str, Any]:
    """Return a manifest's sections by stage; none where there is no file, or a lost one.

    Raises UserError for a file of another form.
    """
    if not path.is_file() or is_lost(path):
        return {}
    try:
        manifest = parse_json(path.read_bytes())
        for stage, section in manifest.items():
            _check_section(stage, section)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise UserError(f"{path}: not a manifest of this program ({reason}); remove it to start again") from error
    return manifest


def _check_section(stage: str, section: Any) -> None:
    """Raise KeyError, TypeError, AttributeError or ValueError where a section is not of the form that is written."""
    for key, kind in (("config", dict), ("versions", dict), ("inputs", dict), ("items", dict), ("complete", bool)):
        if not isinstance(section[key], kind):
            raise TypeError(f"{stage}: {key} is not a {kind.__name__}")
    if type(number := section.get("format", 1)) is not int or number < 1:
        raise TypeError(f"{stage}: format is not a number from 1")
    if not isinstance(section.get("notes", {}), dict) or not isinstance(section["seed"], int | None):
        raise TypeError(f"{stage}: notes or seed are of another type")
    for name, content in [*section["inputs"].items(), *section.get("files", {}).items()]:
        if not isinstance(content["sha256"], str) or not {type(content[key]) for key in ("size", "mtime_ns")} == {int}:
            raise TypeError(f"{stage}: input {name} has no size, time and hash")
    for name, item in section["items"].items():
        for content in item["files"].values():
            if not isinstance(content["sha256"], str) or type(content["size"]) is not int:
                raise TypeError(f"{stage}: item {name} has no size and hash of a file")


def is_lost(path: Path) -> bool:
    """Tell whether a manifest holds nothing but zeros, as after a power cut before this program synced its files."""
    data = path.read_bytes()
    if any(data):
        return False
    logger.warning("%s: empty, as after a power cut: its items are made again", path)
    return True


def read_parts(folder: Path, stage: str, check_item: Callable[[dict[str, Any]], object]) -> dict[str, dict[str, Any]]:
    """Return the stage's section and those of its shards by file name, without any that was begun and made nothing.

    Raises UserError for an item that is not the stage's, or whose files lie outside of the folder.
    """
    paths = [folder / MANIFEST, *list_shard_manifests(folder, stage)]
    sections = {path: read_sections(path).get(stage) for path in paths}
    for path, section in sections.items():
        for name, item in (section or {"items": {}})["items"].items():
            try:
                for relative in item["files"]:
                    inside(folder, relative)
                check_item(item)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                reason = f"{error} is missing" if isinstance(error, KeyError) else error
                raise UserError(
                    f"{path}: its item {name} cannot be used ({reason}). Nothing was changed. Do not "
                    "use a folder from elsewhere whose manifest names such files; set another work_dir"
                ) from error
    return {path.name: migrate(stage, section) for path, section in sections.items() if section and section["items"]}
