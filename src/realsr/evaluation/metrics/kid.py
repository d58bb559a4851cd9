"""KID: distance of two sets of images in features of FID's Inception network, by torch-fidelity."""

from typing import Annotated

import torch
from torch import Tensor

from realsr.core.ranges import Range
from realsr.evaluation.metric import MetricFiles
from realsr.evaluation.metrics.fid import check_sets, require_inception


class KID:
    """Kernel Inception Distance (Bińkowski et al., ICLR 2018); about 0 for equal sets.

    The value is an unbiased estimate and can be negative. It is the mean over `subsets` random
    subsets, drawn with `seed`, of `subset_size` images, or as many as the smaller set has.
    """

    digits = 5

    def __init__(
        self,
        subsets: Annotated[int, Range(1)],
        subset_size: Annotated[int, Range(2)],
        seed: Annotated[int, Range(0)],
        device: torch.device,
        files: MetricFiles,
    ) -> None:
        self._options = {"kid_subsets": subsets, "rng_seed": seed, "verbose": False}
        self._subset_size = subset_size
        self.features = require_inception(files, device)

    def distance(self, sr: Tensor, hr: Tensor) -> float:
        """Return the mean over subsets of squared MMD of features (N, F) and (M, F).

        MMD: maximum mean discrepancy.
        """
        from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

        check_sets("KID", sr, hr)
        size = min(self._subset_size, len(sr), len(hr))
        values = kid_features_to_metric(sr, hr, kid_subset_size=size, **self._options)
        return values[KEY_METRIC_KID_MEAN]
