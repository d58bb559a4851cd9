"""State dicts of torchvision's classifiers, of which only the feature layers are wanted."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from realsr.core.errors import WeightsError
from realsr.core.tensor_files import TensorFileError, check_tensors, describe_tensors, read_tensors


def read_state(path: Path, option: str, network: str) -> object:
    """Return the state dict, or the tuple of tensors, of a PyTorch or safetensors file, not checked.

    Pickles that hold more than plain tensors are refused.

    `option` is what the file was given by, `network` whose weights are expected; both are for messages only.

    Raises:
        WeightsError: if there is no such file or it cannot be read.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file ({option})")
    try:
        return read_tensors(path)[0]
    except TensorFileError as error:
        raise WeightsError(f"{path}: {error}. Expected: a state dict of {network} as .pth or .safetensors") from error


def check_content(content: object, path: Path) -> object:
    """Return what `read_state` gave with its tensors checked as `check_tensors` does. Raises WeightsError."""
    try:
        if isinstance(content, dict):
            return content | check_tensors(_tensors(content), path.stat().st_size)
        if isinstance(content, tuple | list):
            parts = {str(place): value for place, value in enumerate(content)}
            return tuple((parts | check_tensors(_tensors(parts), path.stat().st_size)).values())
    except TensorFileError as error:
        raise WeightsError(f"{path}: {error}") from error
    return content


def _tensors(content: Mapping[Any, object]) -> dict[Any, Tensor]:
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}


def select_features(
    state: object, expected: Mapping[str, Sequence[int]], source: str, network: str
) -> dict[str, Tensor]:
    """Return the entries of the feature layers, as float32, by their names without `features.`.

    Args:
        state: what was read: a whole network, whose classifier is left aside, or its `features` alone, with or
            without the prefix.
        expected: shapes by name.
        source: where `state` is from, for messages.
        network: its name, for messages.

    Raises:
        WeightsError: if names or shapes differ, the first of which are told, or values are not finite.
    """
    if not isinstance(state, dict):
        raise WeightsError(f"{source}: holds no state dict; expected one of {network}")
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
    kinds = {"missing": missing, f"not of {network}": unknown, "of another shape": other}
    differing = [f"{kind}: {', '.join(keys[:3])}" for kind, keys in kinds.items() if keys]
    if differing:
        looks = describe_tensors(state).partition(". ")[0]
        raise WeightsError(
            f"{source}: these are not the weights of {network}'s feature layers ({'; '.join(differing)}). "
            f"{looks and f'{looks}. '}Expected: a state dict of torchvision's {network.lower()}"
        )
    try:
        # Of the sizes that the network has, so that there is no need to compare with the file's.
        features = check_tensors({key: given[key] for key in expected}, sys.maxsize)
    except TensorFileError as error:
        raise WeightsError(f"{source}: {error}") from error
    return {key: value.float() for key, value in features.items()}
