"""Files of weights that metrics need: what they are, where they are looked for, and where to get them.

Nothing is ever downloaded: the libraries that would do so get a file of the user's.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass
class MetricFiles:
    """Paths of weights by key; None: the copy in torch hub's folder, where the metric's library would keep it."""

    alexnet: Path | None = None
    vgg16: Path | None = None
    squeezenet: Path | None = None
    inception: Path | None = None
    niqe: Path | None = None
    brisque: Path | None = None
    nrqm: Path | None = None


@dataclass(frozen=True)
class WeightFile:
    """What a file holds, where it is published, and by which names below torch hub's folder it is looked for."""

    content: str
    url: str
    cached: tuple[str, ...]


_PYIQA = "https://huggingface.co/chaofengc/IQA-PyTorch-Weights/resolve/main"
WEIGHT_FILES = {
    "alexnet": WeightFile(
        "torchvision's AlexNet weights",
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        ("checkpoints/alexnet-owt-7be5be79.pth",),
    ),
    "vgg16": WeightFile(
        "torchvision's VGG16 weights",
        "https://download.pytorch.org/models/vgg16-397923af.pth",
        ("checkpoints/vgg16-397923af.pth",),
    ),
    "squeezenet": WeightFile(
        "torchvision's SqueezeNet 1.1 weights",
        "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",
        ("checkpoints/squeezenet1_1-b8a52dc0.pth",),
    ),
    "inception": WeightFile(
        "the Inception weights of FID",
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
        # The second is the name that pytorch-fid gives to the same file.
        (
            "checkpoints/weights-inception-2015-12-05-6726825d.pth",
            "checkpoints/pt_inception-2015-12-05-6726825d.pth",
        ),
    ),
    "niqe": WeightFile(
        "the model of natural images that NIQE compares with",
        f"{_PYIQA}/niqe_modelparameters.mat",
        ("pyiqa/niqe_modelparameters.mat",),
    ),
    "brisque": WeightFile(
        "BRISQUE's support vectors",
        f"{_PYIQA}/brisque_svm_weights.pth",
        ("pyiqa/brisque_svm_weights.pth",),
    ),
    "nrqm": WeightFile(
        "NRQM's regression forests",
        f"{_PYIQA}/NRQM_model.mat",
        ("pyiqa/NRQM_model.mat",),
    ),
}


def locate(key: str, given: Path | None) -> Path | None:
    """Return the file given, or else the cached one; None where there is none of that name."""
    places = _cached_paths(key) if given is None else [given]
    return next((path for path in places if path.is_file()), None)


def explain_missing(key: str, given: Path | None) -> str:
    """Return what is missing, where to get it and what to do."""
    file, path = WEIGHT_FILES[key], _cached_paths(key)[0]
    if given is not None:
        return f"metric_files.{key}={given}: there is no such file; expected {file.content}, from {file.url}"
    return (
        f"{file.content} are not here: put {path.name} into {path.parent}, or say metric_files.{key}=FILE. "
        f"It is at {file.url}; nothing is downloaded by itself"
    )


def _cached_paths(key: str) -> list[Path]:
    import torch  # here, since the schema of the keys above is read before torch is loaded

    return [Path(torch.hub.get_dir()) / name for name in WEIGHT_FILES[key].cached]
