"""Features of a VGG19 trained on ImageNet, for the perceptual loss (ESRGAN, section 3.3)."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

LAYERS = 35  # up to and with conv5_4, whose index is 34, before its ReLU
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class WeightsError(Exception):
    """The VGG19 weights are missing, damaged or of another network; the message says what to do."""


class VGGFeatures(nn.Module):
    """Output of VGG19's conv5_4, before the ReLU. Frozen: the gradient flows to the image only.

    Args:
        weights: a VGG19 state dict (`.pth`, or `.safetensors`): torchvision's whole one, whose classifier is
            left aside, or that of `features` only, with or without the prefix `features.`. Pickles that hold
            more than plain tensors are refused. None: torchvision's IMAGENET1K_V1, which torchvision
            downloads once and keeps.

    Raises:
        WeightsError: if the weights cannot be had, read or fitted to VGG19.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: Path | None = None) -> None:
        super().__init__()
        # Here and not above: it takes more than a second, and only training needs it.
        from torchvision.models.vgg import cfgs, make_layers

        state = _torchvision_state() if weights is None else _file_state(weights)
        source = "torchvision's VGG19 weights" if weights is None else str(weights)
        # On the meta device, no time and no random number is spent on values that are replaced at once.
        with torch.device("meta"):
            self.layers = make_layers(cfgs["E"])[:LAYERS]
        self.layers.load_state_dict(_feature_state(state, self.layers, source), assign=True)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def forward(self, x: Tensor) -> Tensor:
        """Images (N,3,H,W), 0..1, at least 16x16 -> features (N,512,H//16,W//16), of either sign."""
        # The ReLUs work in place, but never on x: normalising makes a new tensor.
        return self.layers((x - self.mean) / self.std)


def _torchvision_state() -> object:
    from torchvision.models import VGG19_Weights

    weights = VGG19_Weights.IMAGENET1K_V1
    try:
        return weights.get_state_dict(progress=True, check_hash=True, map_location="cpu", weights_only=True)
    # Network, disk, hash and a damaged copy each fail in their own way: to the user it is one thing.
    except Exception as error:
        name = weights.url.rsplit("/", 1)[-1]
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        reason = (str(error).splitlines() or [""])[0]
        raise WeightsError(
            f"torchvision's VGG19 weights for the perceptual loss cannot be had "
            f"({type(error).__name__}: {reason}). Three ways out: "
            f"(1) let torchvision find its cached download: put {name} into {folder}, "
            f"fetched on a machine with a network, or delete a damaged copy there; "
            f"(2) loss.perceptual.weights=FILE with VGG19 weights of your own; "
            f"(3) loss.perceptual.weight=0 to train without the perceptual loss."
        ) from error


def _file_state(path: Path) -> object:
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file (loss.perceptual.weights)")
    try:
        if path.suffix.lower() == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    # Damaged bytes make the readers fail with nearly any exception.
    except Exception as error:
        raise WeightsError(
            f"{path}: cannot be read as weights ({type(error).__name__}). Either the file is damaged or of "
            f"another format, or it holds Python objects other than plain tensors, which are refused because "
            f"loading them can run code. Expected: a VGG19 state dict as .pth or .safetensors"
        ) from error


def _feature_state(state: object, layers: nn.Module, source: str) -> dict[str, Tensor]:
    """The entries of `state` for `layers`, as float32; a WeightsError with the first keys that differ."""
    if not isinstance(state, dict):
        raise WeightsError(f"{source}: holds a {type(state).__name__}; expected a VGG19 state dict")
    expected = {key: value.shape for key, value in layers.state_dict().items()}
    given = {
        str(key).removeprefix("features."): value
        for key, value in state.items()
        if not str(key).startswith("classifier.")
    }
    missing = [key for key in expected if key not in given]
    unknown = [key for key in given if key not in expected]
    other = [
        f"{key} {tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__} "
        f"instead of {tuple(expected[key])}"
        for key, value in given.items()
        if key in expected and not (isinstance(value, Tensor) and value.shape == expected[key])
    ]
    kinds = {"missing": missing, "not of VGG19": unknown, "of another shape": other}
    differing = [f"{kind}: {', '.join(keys[:3])}" for kind, keys in kinds.items() if keys]
    if differing:
        raise WeightsError(
            f"{source}: these are not the weights of VGG19's feature layers ({'; '.join(differing)}). "
            f"Expected: a state dict of torchvision's vgg19, without batch norm"
        )
    return {key: given[key].float() for key in expected}
