"""The distance of VGG19's features (ESRGAN, section 3.3)."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from realsr.core.errors import WeightsError
from realsr.networks.torchvision_weights import read_state, select_features
from realsr.training.loss_terms.term import LossTerm, StepTensors

LAYERS = 35  # through conv5_4 (index 34), before its ReLU
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Perceptual(LossTerm):
    """Mean |phi(sr) - phi(hr)| with phi VGG19's conv5_4 before the ReLU (ESRGAN, section 3.3).

    Args:
        weights: file of VGG19 weights; None: download by torchvision.
    """

    min_crop = 16

    def __init__(self, weights: Path | None) -> None:
        super().__init__()
        self.features: nn.Module = VGGFeatures(weights)

    def forward(self, x: StepTensors) -> Tensor:
        """Return the mean; the gradient reaches sr only."""
        with torch.no_grad():
            target = self.features(x.hr).float()
        return F.l1_loss(self.features(x.sr).float(), target)


class VGGFeatures(nn.Module):
    """Output of VGG19's conv5_4, before the ReLU. The parameters are frozen.

    Args:
        weights: file of a VGG19 state dict in torchvision's layout, see `select_features`; None:
            IMAGENET1K_V1, which torchvision downloads once.

    Raises:
        WeightsError: if the weights cannot be downloaded or read, or do not fit VGG19.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: Path | None) -> None:
        super().__init__()
        # Imported here, since the import takes more than a second.
        from torchvision.models.vgg import cfgs, make_layers

        state = (
            _torchvision_state()
            if weights is None
            else read_state(weights, "loss.perceptual.weights", "VGG19")
        )
        source = "torchvision's VGG19 weights" if weights is None else str(weights)
        # On the meta device, initial values consume no random numbers.
        with torch.device("meta"):
            self.layers = make_layers(cfgs["E"])[:LAYERS]
        shapes = {key: value.shape for key, value in self.layers.state_dict().items()}
        self.layers.load_state_dict(select_features(state, shapes, source, "VGG19"), assign=True)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def forward(self, x: Tensor) -> Tensor:
        """Return features (N,512,H//16,W//16) of images (N,3,H,W) in 0..1, 16x16 or larger."""
        # The ReLUs work in place, but not on x: the normalisation makes a new tensor.
        return self.layers((x - self.mean) / self.std)


def _torchvision_state() -> object:
    from torchvision.models import VGG19_Weights

    weights = VGG19_Weights.IMAGENET1K_V1
    try:
        return weights.get_state_dict(
            progress=True, check_hash=True, map_location="cpu", weights_only=True
        )
    except Exception as error:  # various errors of network, disk, hash and unpickling
        name, folder = weights.url.rpartition("/")[2], Path(torch.hub.get_dir()) / "checkpoints"
        reason = (
            "the download fails" if isinstance(error, OSError) else "the downloaded copy is damaged"
        )
        raise WeightsError(
            f"torchvision's VGG19 weights for the perceptual loss cannot be loaded ({reason}). "
            f"Choose one of: (1) put {name} into {folder}, or delete a damaged copy there; (2) set "
            "loss.perceptual.weights=FILE to your own VGG19 weights; (3) set "
            "loss.perceptual.weight=0 to train without the perceptual loss."
        ) from error
