"""FID: how far two sets of images are apart, in features of an Inception network, by torch-fidelity."""

import io
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from realsr.core.errors import WeightsError
from realsr.evaluation.metric import MetricFiles, WeightFile, require
from realsr.networks.torchvision_weights import check_content, read_state

Features = Callable[[Tensor], Tensor]

INCEPTION = WeightFile(
    "inception",
    "the Inception weights of FID",
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    # The second is the name that pytorch-fid gives to the same file.
    (
        "checkpoints/weights-inception-2015-12-05-6726825d.pth",
        "checkpoints/pt_inception-2015-12-05-6726825d.pth",
    ),
)


class FID:
    """Fréchet Inception Distance (Heusel et al., NeurIPS 2017): 0 for equal means and covariances."""

    digits = 2

    def __init__(self, device: torch.device, files: MetricFiles) -> None:
        self.features = require_inception(files, device)

    @staticmethod
    def distance(sr: Tensor, hr: Tensor) -> float:
        """Return the Fréchet distance of Gaussians fit to features (N, F) and (M, F)."""
        from torch_fidelity.metric_fid import (
            KEY_METRIC_FID,
            fid_features_to_statistics,
            fid_statistics_to_metric,
        )

        check_sets("FID", sr, hr)
        statistics = [fid_features_to_statistics(features) for features in (sr, hr)]
        return fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID]


def check_sets(name: str, result: Tensor, reference: Tensor) -> None:
    """Raise ValueError where a set has fewer than two images."""
    if min(len(result), len(reference)) < 2:
        raise ValueError(
            f"{name} compares sets of at least 2 images, got {len(result)} and {len(reference)}"
        )


def require_inception(files: MetricFiles, device: torch.device) -> Features:
    """Return the network of `load_inception`. Raises UserError where something is missing."""
    (path,) = require(
        files, INCEPTION, libraries=("torch_fidelity",), install="pip install 'realsr[metrics]'"
    )
    return load_inception(path, device)


@lru_cache(maxsize=1)
def load_inception(weights: Path, device: torch.device) -> Features:
    """Return FID's Inception network on a device, as a function of an image (3, H, W), 0..1 -> (1, 2048) on the CPU.

    It is the library's `inception-v3-compat`: 8 bit, resized to 299x299 as TensorFlow 1 did, features before the
    classifier. The last one is cached, so that FID and KID share it.

    Raises:
        WeightsError: if the file is damaged, of another network, or holds more than tensors.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    # The library unpickles whatever it gets: give it a pickle that is written here, of tensors alone.
    checked = io.BytesIO()
    content = read_state(weights, "metric_files.inception", "FID's Inception network")
    torch.save(check_content(content, weights), checked)
    checked.seek(0)
    try:
        with torch.random.fork_rng(devices=[]):
            net = FeatureExtractorInceptionV3(
                "inception-v3-compat", ["2048"], feature_extractor_weights_path=checked
            )
    except (RuntimeError, TypeError) as error:  # of load_state_dict: names, shapes, not even a dict
        names = (
            [str(name)[:60] for name in list(content)[:3]]
            if isinstance(content, dict)
            else ["no state dict"]
        )
        raise WeightsError(
            f"{weights}: these are not the weights of FID's Inception network (it holds "
            f"{', '.join(names) or 'nothing'}). torchvision's Inception is another one. "
            f"Expected: the file from {INCEPTION.url}"
        ) from error
    net.to(device)

    @torch.no_grad()
    def features(image: Tensor) -> Tensor:
        levels = image.to(device).clamp(0, 1).mul(255).round().to(torch.uint8)
        return net(levels[None])[0].cpu()

    return features
