"""FID: distance of two sets of images in features of an Inception network, by torch-fidelity."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from realsr.core.errors import WeightsError
from realsr.evaluation.metric import METRICS_EXTRA, MetricFiles, read_for_library, require
from realsr.weights.published_files import WEIGHT_FILES

Features = Callable[[Tensor], Tensor]

INCEPTION = WEIGHT_FILES["inception"]


class FID:
    """Fréchet Inception Distance (Heusel et al., NeurIPS 2017); 0 if mean and covariance agree."""

    digits = 2

    def __init__(self, device: torch.device, files: MetricFiles) -> None:
        self.features = require_inception(files, device)

    @staticmethod
    def distance(sr: Tensor, hr: Tensor) -> float:
        """Return the Fréchet distance of Gaussians fitted to features (N, F) and (M, F)."""
        from torch_fidelity.metric_fid import (
            KEY_METRIC_FID,
            fid_features_to_statistics,
            fid_statistics_to_metric,
        )

        check_sets("FID", sr, hr)
        statistics = [fid_features_to_statistics(features) for features in (sr, hr)]
        return fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID]


def check_sets(name: str, result: Tensor, reference: Tensor) -> None:
    """Raise ValueError if a set has fewer than two images."""
    if min(len(result), len(reference)) < 2:
        raise ValueError(
            f"{name} compares sets of at least 2 images, got {len(result)} and {len(reference)}"
        )


def require_inception(files: MetricFiles, device: torch.device) -> Features:
    """Return the network of `load_inception`. Raises UserError if a library or file is missing."""
    (path,) = require(files, INCEPTION, libraries=("torch_fidelity",), install=METRICS_EXTRA)
    return load_inception(path, device)


@lru_cache(maxsize=1)
def load_inception(weights: Path, device: torch.device) -> Features:
    """Return FID's Inception network as a function: image (3, H, W), 0..1 -> (1, 2048) on the CPU.

    It is the library's `inception-v3-compat`: images in 8 bit, resized to 299x299 as by TensorFlow
    1, features before the classifier. The network is cached, so that FID and KID share it.

    Raises:
        WeightsError: if the file is damaged, of another network, or has more than tensors.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    content, pickle = read_for_library(INCEPTION, weights, "FID's Inception network")
    try:
        with torch.random.fork_rng(devices=[]):
            net = FeatureExtractorInceptionV3(
                "inception-v3-compat", ["2048"], feature_extractor_weights_path=pickle
            )
    except (RuntimeError, TypeError) as error:  # load_state_dict: names, shapes, or no dict
        names = ["no state dict"]
        if isinstance(content, dict):
            names = [str(name)[:60] for name in list(content)[:3]]
        raise WeightsError(
            f"{weights}: not the weights of FID's Inception network, which differs from "
            f"torchvision's (the file has {', '.join(names) or 'no content'}). "
            f"Expected: the file from {INCEPTION.url}"
        ) from error
    net.to(device)

    @torch.no_grad()
    def features(image: Tensor) -> Tensor:
        levels = image.to(device).clamp(0, 1).mul(255).round().to(torch.uint8)
        return net(levels[None])[0].cpu()

    return features
