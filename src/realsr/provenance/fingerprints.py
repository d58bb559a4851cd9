"""Fingerprints of what a result may depend on: file contents and package versions."""

import hashlib
import platform
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "realsr", "torch", "torchvision", "numpy", "opencv-python-headless", "scipy", "pillow",
    "simplejpeg", "tifffile", "imagecodecs", "isal",
)  # fmt: skip


def fingerprint_file(path: Path) -> dict[str, Any]:
    """Return the size and SHA-256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"size": path.stat().st_size, "sha256": digest}


def fingerprint_inputs(inputs: Mapping[str, Path], records: Mapping[str, Any]) -> dict[str, Any]:
    """Return size, SHA-256 and modification time of each readable input.

    records: earlier fingerprints. Inputs of unchanged size and time are not read again.
    """

    def fingerprint(name: str) -> dict[str, Any] | None:
        try:
            status = inputs[name].stat()
            old = records.get(name)
            if old and (old["size"], old.get("mtime_ns")) == (status.st_size, status.st_mtime_ns):
                return old
            return {**fingerprint_file(inputs[name]), "mtime_ns": status.st_mtime_ns}
        except OSError:  # the stage reports the file when it reads it
            return None

    with ThreadPoolExecutor() as threads:
        contents = zip(inputs, threads.map(fingerprint, inputs), strict=True)
        return {name: content for name, content in contents if content is not None}


def package_versions(extras: Sequence[str] = ()) -> dict[str, str]:
    """Return the versions of Python, of PACKAGES and of the installed packages of `extras`."""
    versions = {"python": platform.python_version()}
    for package in (*PACKAGES, *extras):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            if package in PACKAGES:
                versions[package] = "unknown"
    return versions
