"""Published weight files of metrics and perceptual losses: where to get, to find, how to read them."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from realsr.core.errors import WeightsError
from realsr.core.tensor_files import TensorFileError, check_tensors, describe_tensors, read_tensors


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
    content, sha256 = f"torchvision's {network} weights", Path(name).stem.rpartition("-")[2]
    places = (f"checkpoints/{name}",)
    return WeightFile(key, content, url, places, megabytes, sha256, "BSD-3-Clause")


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
FETCH_COMMAND = "python -m realsr.fetch"


def read_state(path: Path, option: str, network: str) -> object:
    """Return the unchecked content of a PyTorch or safetensors file; code in a pickle is refused.

    option, network: the key that sets the file, and the expected network, for messages. Raises
    WeightsError for a file that is missing or cannot be read.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file ({option})")
    try:
        return read_tensors(path)[0]
    except TensorFileError as error:
        raise WeightsError(
            f"{path}: {error}. Expected: a state dict of {network} as .pth or .safetensors"
        ) from error


def read_checked(path: Path, option: str, network: str) -> object:
    """Return as `read_state` does, with the tensors of a state dict or tuple checked.

    Raises WeightsError as `check_tensors` raises TensorFileError; other content is not checked.
    """
    content, size = read_state(path, option, network), path.stat().st_size
    try:
        if isinstance(content, tuple | list):
            tensors = {str(index): value for index, value in enumerate(content)}
            return tuple(check_tensors(tensors, size).values())
        return check_tensors(content, size) if isinstance(content, dict) else content
    except TensorFileError as error:
        raise WeightsError(f"{path}: {error}") from error


def select_features(
    state: object, layout: Mapping[str, Sequence[int]], source: str, network: str
) -> dict[str, Tensor]:
    """Return the tensors of a classifier's feature layers, float32, by name without `features.`.

    Args:
        state: the state dict of a classifier, or of its `features` with or without this prefix.
        layout: the expected shapes by name.
        source, network: file and classifier, for messages.

    Raises:
        WeightsError: if names or shapes differ, or values are not finite.
    """
    if not isinstance(state, dict):
        raise WeightsError(f"{source}: holds no state dict; expected one of {network}")
    features = {
        str(key).removeprefix("features."): value
        for key, value in state.items()
        if not str(key).startswith("classifier.")
    }
    shapes = {
        name: tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        for name, value in features.items()
    }
    differences = {
        "missing": [name for name in layout if name not in shapes],
        f"not of {network}": [name for name in shapes if name not in layout],
        "of another shape": [
            f"{name} {shapes[name]} instead of {tuple(shape)}"
            for name, shape in layout.items()
            if name in shapes and shapes[name] != tuple(shape)
        ],
    }
    text = "; ".join(
        f"{kind}: {', '.join(names[:3])}" for kind, names in differences.items() if names
    )
    if text:
        looks = describe_tensors(state).partition(". ")[0]
        raise WeightsError(
            f"{source}: these are not the weights of {network}'s feature layers ({text}). "
            f"{looks and f'{looks}. '}Expected: a state dict of torchvision's {network.lower()}"
        )
    try:
        # The shapes have been checked, so the size needs no limit.
        features = check_tensors(features, sys.maxsize)
    except TensorFileError as error:
        raise WeightsError(f"{source}: {error}") from error
    return {name: value.float() for name, value in features.items()}
