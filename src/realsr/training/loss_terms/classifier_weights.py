"""Weights of the classifiers of ImageNet whose features a loss term compares."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import torch

from realsr.core.errors import WeightsError
from realsr.weights.sources import FETCH_COMMAND
from realsr.weights.state_files import read_state


class DownloadError(WeightsError):
    """Weights that cannot be downloaded.

    problem: what is lacking, and why. remedy: the command or the copy that provides it.
    """

    def __init__(self, problem: str, remedy: str, term: str, network: str) -> None:
        super().__init__(
            f"{problem}. Choose one of: (1) {remedy}; (2) set loss.{term}.weights=FILE to your own "
            f"{network} weights; (3) set loss.{term}.weight=0 to train without this term."
        )
        self.problem, self.remedy = problem, remedy


_ZEROS = ContextVar("zeros", default=False)


@contextmanager
def without_weights() -> Iterator[None]:
    """Let `load_classifier` return zeros inside the block, for a plan, which needs shapes only."""
    token = _ZEROS.set(True)
    try:
        yield
    finally:
        _ZEROS.reset(token)


def load_classifier(network: str, path: Path | None, term: str) -> tuple[object, str]:
    """Return a classifier's state dict, not checked, and its source in words.

    Args:
        network: VGG19, VGG16 or AlexNet.
        path: file of the state dict; None: torchvision's IMAGENET1K_V1, which it downloads once.
        term: key of the loss term, for messages.

    Raises:
        DownloadError: if the weights cannot be downloaded.
        WeightsError: if the file cannot be read.
    """
    if _ZEROS.get():
        from torchvision.models import get_model

        with torch.device("meta"):
            features = get_model(network.lower()).features
        shapes = {f"features.{key}": value.shape for key, value in features.state_dict().items()}
        return {key: torch.zeros(shape) for key, shape in shapes.items()}, "zeros"
    if path is not None:
        return read_state(path, f"loss.{term}.weights", network), str(path)
    # Imported here, since it takes more than a second.
    from torchvision.models import get_model_weights

    weights = get_model_weights(network.lower()).IMAGENET1K_V1
    try:
        state = weights.get_state_dict(
            progress=True, check_hash=True, map_location="cpu", weights_only=True
        )
    except Exception as error:  # network, disk, hash and a damaged copy raise various kinds
        name, folder = weights.url.rpartition("/")[2], Path(torch.hub.get_dir()) / "checkpoints"
        reason = (
            "the download fails" if isinstance(error, OSError) else "the downloaded copy is damaged"
        )
        raise DownloadError(
            f"torchvision's {network} weights for the loss cannot be loaded ({reason})",
            f"run {FETCH_COMMAND} what=[{network.lower()}], or put {name} into {folder}, or delete "
            "a damaged copy there",
            term,
            network,
        ) from error
    return state, f"torchvision's {network} weights"
