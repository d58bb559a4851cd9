"""FID and KID: how far two sets of images are apart, in features of an Inception network, by torch-fidelity."""

import io
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from realsr.core.errors import WeightsError
from realsr.evaluation.metric import SetMetric
from realsr.evaluation.metric_files import WEIGHT_FILES
from realsr.networks.torchvision_weights import check_content, read_state

Features = Callable[[Tensor], Tensor]

KID_SUBSETS = 100
KID_SUBSET_SIZE = 1000  # at most: there may be fewer images
KID_SEED = 2020  # the library's own default


def load_inception(weights: Path, device: torch.device) -> Features:
    """Return FID's Inception network on a device, as a function of an image (3, H, W), 0..1 -> (1, 2048) on the CPU.

    It is the library's `inception-v3-compat`: 8 bit, resized to 299x299 as TensorFlow 1 did, features before the
    classifier.

    Raises:
        WeightsError: if the file is damaged, of another network, or holds more than tensors.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    # The library runs what is in the pickle: it gets one that is written here, of tensors alone.
    checked = io.BytesIO()
    content = read_state(weights, "metric_files.inception", "FID's Inception network")
    torch.save(check_content(content, weights), checked)
    checked.seek(0)
    try:
        with torch.random.fork_rng(devices=[]):
            net = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=checked)
    except (RuntimeError, TypeError) as error:  # of load_state_dict: names, shapes, not even a dict
        names = [str(name)[:60] for name in list(content)[:3]] if isinstance(content, dict) else ["no state dict"]
        raise WeightsError(
            f"{weights}: these are not the weights of FID's Inception network (it holds "
            f"{', '.join(names) or 'nothing'}). torchvision's Inception is another one. "
            f"Expected: the file from {WEIGHT_FILES['inception'].url}"
        ) from error
    net.to(device)

    @torch.no_grad()
    def features(image: Tensor) -> Tensor:
        levels = image.to(device).clamp(0, 1).mul(255).round().to(torch.uint8)
        return net(levels[None])[0].cpu()

    return features


def fid(features: Features) -> SetMetric:
    """Return Fréchet Inception Distance (Heusel et al., NeurIPS 2017): 0 for equal means and covariances."""
    return SetMetric("fid", digits=2, features=features, distance=_fid)


def kid(features: Features) -> SetMetric:
    """Return Kernel Inception Distance (Bińkowski et al., ICLR 2018): about 0 for equal sets, may be below.

    The mean over 100 subsets of 1000 images each, drawn from a fixed seed; of fewer images all are in each subset, up
    to as many as the smaller of the two sets has.
    """
    return SetMetric("kid", digits=5, features=features, distance=_kid)


def _fid(result: Tensor, reference: Tensor) -> float:
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

    _check("FID", result, reference)
    statistics = [fid_features_to_statistics(features) for features in (result, reference)]
    return fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID]


def _kid(result: Tensor, reference: Tensor) -> float:
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    _check("KID", result, reference)
    found = kid_features_to_metric(
        result,
        reference,
        kid_subsets=KID_SUBSETS,
        kid_subset_size=min(KID_SUBSET_SIZE, len(result), len(reference)),
        rng_seed=KID_SEED,
        verbose=False,
    )
    return found[KEY_METRIC_KID_MEAN]


def _check(name: str, result: Tensor, reference: Tensor) -> None:
    if min(len(result), len(reference)) < 2:
        raise ValueError(f"{name} compares sets of at least 2 images, got {len(result)} and {len(reference)}")
