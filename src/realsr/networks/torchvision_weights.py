"""State dicts of published networks, from untrusted files, and feature layers of classifiers."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from realsr.core.errors import WeightsError
from realsr.core.tensor_files import TensorFileError, check_tensors, describe_tensors, read_tensors


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


def check_content(content: object, path: Path) -> object:
    """Check a state dict or tuple of tensors by `check_tensors`; return other content unchanged.

    Raises WeightsError.
    """
    size = path.stat().st_size
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
