"""The files of a folder that are wanted, and a line that names what is left out."""

import logging
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

logger = logging.getLogger("realsr")

_SHOWN = 5
_UNREAD = "image of a format that is not read"


@dataclass
class _Listing:
    """The files that are wanted, and the names of the others by what they are."""

    files: list[Path] = field(default_factory=list)
    rest: dict[str, list[str]] = field(default_factory=dict)
    entered: set[tuple[int, int]] = field(default_factory=set)  # folders, by device and inode

    def leave_out(self, kind: str, path: Path, root: Path) -> None:
        self.rest.setdefault(kind, []).append(path.relative_to(root).as_posix())


def list_files(
    folder: Path, suffixes: Collection[str], recursive: bool = False, unread: Collection[str] = ()
) -> list[Path]:
    """Return the files of a folder that have one of the suffixes (lower case, with dot), sorted by path.

    A log line counts and names what is left out: subfolders, other files, hidden files with such a suffix. A link
    without a target is returned like a file, so that reading it names it.

    Args:
        recursive: look into subfolders too. Links to folders are followed, and no folder is entered twice; a link
            without target and suffix is returned then, since it may have been a folder.
        unread: suffixes of images in formats that are not read. A log line of its own counts and names them.

    Raises:
        OSError: where a folder cannot be listed.
    """
    listing = _Listing()
    _collect(folder, folder, suffixes, recursive, listing, unread)
    if images := listing.rest.pop(_UNREAD, None):
        them = "it" if len(images) == 1 else "them"
        _report(f"{folder}: {_describe(_UNREAD, images)}: convert {them} to PNG or TIFF", logging.WARNING)
    if listing.rest:
        _report(f"{folder}: left out: {'; '.join(_describe(kind, names) for kind, names in listing.rest.items())}")
    return sorted(listing.files)


def _collect(
    folder: Path, root: Path, suffixes: Collection[str], recursive: bool, listing: _Listing, unread: Collection[str]
) -> None:
    status = folder.stat()
    if (status.st_dev, status.st_ino) in listing.entered:
        return
    listing.entered.add((status.st_dev, status.st_ino))
    with os.scandir(folder) as entries:
        # Links come last: a folder is named by where it is, if it is inside.
        ordered = sorted(entries, key=lambda entry: (entry.is_symlink(), entry.name))
    for entry in ordered:
        path = folder / entry.name
        wanted = path.suffix.lower() in suffixes
        dangling = entry.is_symlink() and not path.exists()
        if entry.name.startswith("."):
            if wanted:
                listing.leave_out("hidden file", path, root)
        elif entry.is_dir():
            if recursive:
                if wanted:
                    listing.leave_out("folder with the name of a file", path, root)
                _collect(path, root, suffixes, recursive, listing, unread)
            else:
                listing.leave_out("subfolder", path, root)
        elif (wanted and (entry.is_file() or dangling)) or (dangling and recursive and not path.suffix):
            listing.files.append(path)
        else:
            kind = _UNREAD if path.suffix.lower() in unread else "other file"
            listing.leave_out("link without a target" if dangling else kind, path, root)


def _describe(kind: str, names: list[str]) -> str:
    more = ", …" if len(names) > _SHOWN else ""
    if kind == _UNREAD and len(names) > 1:
        kind = "images of formats that are not read"
    elif len(names) > 1:
        noun, _, rest = kind.partition(" with")
        kind = f"{noun}s with{rest}" if rest else f"{noun}s"
    return f"{len(names)} {kind} ({', '.join(sorted(names)[:_SHOWN])}{more})"


@cache  # once, since several stages of a command list the same folder
def _report(line: str, level: int = logging.INFO) -> None:
    logger.log(level, "%s", line)
