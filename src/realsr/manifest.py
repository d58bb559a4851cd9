"""What a stage leaves behind: provenance, and what is already done.

Each stage writes one folder and keeps a section of that folder's `manifest.json`: config, seed, package versions,
inputs with content hashes, and per item its files and where they came from. From the section a repeated command
knows what is done, an interrupted one where to go on, and a changed one what differs.
"""

import hashlib
import json
import platform
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from realsr.errors import UserError
from realsr.imaging import write_bytes

MANIFEST = "manifest.json"
SAVE_INTERVAL = 1.0  # seconds; what a killed run did since the last save is done again
SECTION_KEYS = {"config", "seed", "versions", "inputs", "items", "complete"}
PACKAGES = ("realsr", "torch", "torchvision", "numpy", "opencv-python-headless", "scipy", "pillow")


class StageRecord:
    """One stage's section of a manifest. Get one from `open_stage`.

    Attributes:
        items: per item, its `files` (relative path -> size and sha256) and what the stage tells about it.
        complete: whether the stage has been finished.
    """

    def __init__(self, folder: Path, stage: str, section: dict[str, Any]):
        self.folder, self.stage, self._section = folder, stage, section
        self.items: dict[str, dict[str, Any]] = section["items"]
        self._failures: dict[str, str] = {}
        self._saved = 0.0

    @property
    def complete(self) -> bool:
        """Whether the stage was finished, without failures."""
        return self._section["complete"]

    def is_done(self, name: str) -> bool:
        """Whether the item is recorded and its files are as they were written, by their sizes."""
        item = self.items.get(name)
        return item is not None and all(
            (path := self.folder / relative).is_file() and path.stat().st_size == file["size"]
            for relative, file in item["files"].items()
        )

    def add(self, name: str, files: Iterable[Path], **facts: Any) -> None:
        """Record an item whose files have been written, and what is worth telling about it."""
        self.items[name] = {
            "files": {_relative(path, self.folder): _content(path) for path in files},
            **facts,
        }
        if time.monotonic() - self._saved > SAVE_INTERVAL:
            self.save()

    def fail(self, name: str, source: str, path: Path, error: Exception) -> None:
        """Note that an item cannot be made from the file of the input named `source`; the others still are."""
        self._failures[name] = str(error) if path.name in str(error) else f"{path}: {error}"
        self._section["inputs"].pop(source, None)

    def forget(self) -> None:
        """Take the whole section back, so that the next run begins anew."""
        self.items.clear()
        self._section["inputs"].clear()

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
        self._section["complete"] = True

    def save(self) -> None:
        """Write the section into the folder's manifest, atomically."""
        manifest = read_manifest(self.folder)
        manifest[self.stage] = self._section
        write_bytes(self.folder / MANIFEST, json.dumps(manifest, indent=1).encode())
        self._saved = time.monotonic()


@contextmanager
def open_stage(
    folder: Path,
    stage: str,
    *,
    config: Mapping[str, Any],
    seed: int | None,
    inputs: Mapping[str, Path],
    overwrite: bool = False,
    growing: bool = True,
    belongings: Sequence[str] = (),
) -> Iterator[StageRecord]:
    """Open the record of a stage that writes into `folder`, and save it whatever happens inside the `with`.

    seed: None where the stage leaves nothing to chance. inputs: name -> file, e.g. "source/0001.png"; files of a
    known size and time are not read again. Raises UserError if the stage was run here with another config, seed or
    other inputs and `overwrite` is not given; with it, the files that the section lists are deleted, and
    `belongings` (files and folders in `folder`), and the stage begins anew. An unfinished stage may take more inputs
    if it is `growing`: each of its items stands for itself.
    """
    _make_folder(folder)
    for leftover in folder.rglob(".*.tmp"):  # of a run that was killed while it wrote
        leftover.unlink()
    facts: dict[str, Any] = json.loads(json.dumps(dict(config), default=str))
    old = read_manifest(folder).get(stage)
    if old and not old["items"]:  # begun, and nothing made: nothing to be different from
        old = None
    fingerprints = _fingerprints(inputs, old["inputs"] if old else {})
    if old and (differences := _differences(old, facts, seed, fingerprints, growing)):
        if not overwrite:
            listing = "\n".join(f"  {line}" for line in differences[:10])
            more = f"\n  and {len(differences) - 10} more" if len(differences) > 10 else ""
            raise UserError(
                f"{folder}: {stage} made with another configuration or from other inputs:\n{listing}{more}\n"
                "To make them anew say overwrite=true, to keep them choose another work_dir."
            )
        for item in old["items"].values():
            for relative in item["files"]:
                (folder / relative).unlink(missing_ok=True)
        for name in belongings:
            _remove(folder / name)
        old = None
    section = {
        "config": facts,
        "seed": seed,
        "versions": package_versions(),
        "inputs": fingerprints,
        "items": old["items"] if old else {},
        "complete": bool(old and old["complete"]),
    }
    record = StageRecord(folder, stage, section)
    # At once, so that a run killed at any moment leaves no file that no manifest tells of, and that inputs which were
    # only touched are not read a third time.
    if not old or fingerprints != old["inputs"]:
        record.save()
    before = json.dumps(section)
    try:
        yield record
    finally:
        if json.dumps(section) != before:
            record.save()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a folder's manifest, stage -> section; empty where the folder has none.

    Raises UserError where the file is not a manifest.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return {}
    try:
        manifest = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}); remove it to begin anew") from error
    if not isinstance(manifest, dict) or not all(
        isinstance(section, dict) and section.keys() >= SECTION_KEYS for section in manifest.values()
    ):
        raise UserError(f"{path}: not a manifest of this program; remove it to begin anew")
    return manifest


def is_foreign(folder: Path, stage: str, pattern: str) -> bool:
    """Whether a folder holds files (glob) of a stage that its manifest does not tell of: made elsewhere."""
    return stage not in read_manifest(folder) and next(folder.glob(pattern), None) is not None


def refuse_foreign(folder: Path, stage: str, pattern: str) -> None:
    """Raise UserError rather than mix a stage's files with others that were put there by hand."""
    if is_foreign(folder, stage, pattern):
        raise UserError(
            f"{folder}: holds {stage} that were made elsewhere ({pattern} without a manifest). realsr.train uses them "
            "as they are; to make new ones move them away or choose another work_dir."
        )


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results may depend on."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "unknown"
    return versions


def name_inputs(kind: str, paths: Sequence[Path]) -> dict[str, Path]:
    """Name input files for a manifest: {"source/0001.png": path}."""
    return {f"{kind}/{path.name}": path for path in paths}


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"{folder}: a file is in the way; choose another work_dir or move that file") from error


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _content(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"size": path.stat().st_size, "sha256": digest}


def _fingerprints(inputs: Mapping[str, Path], known: Mapping[str, Any]) -> dict[str, Any]:
    def fingerprint(name: str) -> dict[str, Any]:
        status = inputs[name].stat()
        old = known.get(name)
        if old and (old["size"], old["mtime_ns"]) == (status.st_size, status.st_mtime_ns):
            return old
        return {**_content(inputs[name]), "mtime_ns": status.st_mtime_ns}

    with ThreadPoolExecutor() as threads:
        return dict(zip(inputs, threads.map(fingerprint, inputs), strict=True))


def _differences(
    old: Mapping[str, Any], config: dict[str, Any], seed: int | None, inputs: Mapping[str, Any], growing: bool
) -> list[str]:
    lines = [] if old["seed"] == seed else [f"seed: {old['seed']} there, {seed} now"]
    for key in sorted(old["config"].keys() | config.keys()):
        there, now = old["config"].get(key, "nothing"), config.get(key, "nothing")
        if there != now:
            lines.append(f"{key}: {there} there, {now} now")
    for name, known in old["inputs"].items():
        if name not in inputs:
            lines.append(f"{name}: was there, is gone now")
        elif inputs[name]["sha256"] != known["sha256"]:
            lines.append(f"{name}: has another content now")
    if old["complete"] or not growing:
        lines += [f"{name}: new" for name in inputs if name not in old["inputs"]]
    return lines
