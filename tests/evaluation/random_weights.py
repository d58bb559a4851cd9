"""Seeded random weights in the files, and of the shapes, that the metrics' libraries would download."""

from pathlib import Path

import numpy as np
import scipy.io
import torch
from torch import Tensor, nn


def write_hub(folder: Path) -> Path:
    """Fill torch hub's folder as the libraries would have: torchvision's classifiers, FID's Inception, pyiqa's."""
    generator = torch.Generator().manual_seed(0)
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "pyiqa").mkdir()
    for name, state in _classifiers(generator).items():
        torch.save(state, folder / "checkpoints" / name)
    write_pyiqa(folder / "pyiqa")
    return folder


def write_inception(folder: Path) -> Path:
    """FID's Inception, alone because it is large."""
    from torch_fidelity import feature_extractor_inceptionv3 as library

    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        parts = _inception_parts(library)
    path = folder / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(_fill(parts.state_dict(), generator), path)
    return path


def _inception_parts(library: object) -> nn.Module:
    """The library's network without its weights, which its constructor insists on."""
    network = library.FeatureExtractorInceptionV3

    class Bare(network):
        def load_state_dict(self, state: object, *options: object, **more: object) -> None:
            pass

    load, library.load_state_dict_from_url = library.load_state_dict_from_url, lambda *a, **k: {}
    try:
        return Bare("bare", ["2048"])
    finally:
        library.load_state_dict_from_url = load


def _fill(shapes: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """He's normal for weights, small biases; batch norms that change nothing."""
    state = {}
    for key, like in shapes.items():
        if like.ndim > 1:
            state[key] = torch.empty(like.shape).normal_(
                0, (2 / like[0].numel()) ** 0.5, generator=generator
            )
        elif key.endswith(("bn.weight", "running_var")):
            state[key] = torch.ones(like.shape)
        elif key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(1)
        else:
            state[key] = torch.empty(like.shape).normal_(0, 0.05, generator=generator)
    return state


def _classifiers(generator: torch.Generator) -> dict[str, dict[str, Tensor]]:
    from torchvision import models

    files = {}
    for build, name in (
        (models.alexnet, "alexnet-owt-7be5be79.pth"),
        (models.vgg16, "vgg16-397923af.pth"),
        (models.squeezenet1_1, "squeezenet1_1-b8a52dc0.pth"),
    ):
        with torch.device("meta"):
            shapes = build(weights=None).state_dict()
        features = {key: value for key, value in shapes.items() if key.startswith("features.")}
        # The classifiers are large and not used: one number each, in the full shape.
        rest = {
            key: torch.zeros(1).expand(value.shape)
            for key, value in shapes.items()
            if key not in features
        }
        files[name] = _fill(features, generator) | rest
    return files


def write_pyiqa(folder: Path) -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(36, 36))
    scipy.io.savemat(
        folder / "niqe_modelparameters.mat",
        {"mu_prisparam": rng.random((1, 36)), "cov_prisparam": root @ root.T / 36},
    )
    torch.save(
        (torch.from_numpy(rng.normal(size=50)), torch.from_numpy(rng.uniform(-1, 1, (50, 36)))),
        folder / "brisque_svm_weights.pth",
    )
    forests = np.empty((1, 3), object)
    # So many features have the three kinds: of blocks, of bands, of singular values.
    for index, features in enumerate((18, 45, 75)):
        forests[0, index] = _forest(rng, features)
    scipy.io.savemat(
        folder / "NRQM_model.mat",
        {"model": {"linear": rng.uniform(0.2, 0.8, (4, 1)), "rf": forests}},
    )


def _forest(rng: np.random.Generator, features: int, trees: int = 40) -> dict[str, object]:
    """Full binary trees of seven nodes; children by number from 1, 0 at the leaves."""
    left, right = np.zeros((7, trees), np.int32), np.zeros((7, trees), np.int32)
    left[:3], right[:3] = [[2], [4], [6]], [[3], [5], [7]]
    return {
        "ldau": left,
        "rdau": right,
        "nodes": 7,
        "status": 0,
        "threshold": rng.random((7, trees)),
        "pred": 10 * rng.random((7, trees)),
        "attribute": rng.integers(1, features + 1, (7, trees)),
    }
