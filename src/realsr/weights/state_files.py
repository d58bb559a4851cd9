"""State dicts from untrusted files, read without running any code in them."""

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from realsr.core.errors import UserError, WeightsError
from realsr.core.file_kinds import FileKind, identify_file
from realsr.core.tensor_files import (
    GENERATOR,
    TensorFileError,
    check_finite,
    check_tensors,
    describe_tensors,
    read_tensors,
)
from realsr.weights.layouts import compare_shapes, prefixes
from realsr.weights.ncnn import find_pair, is_ncnn, read_ncnn

logger = logging.getLogger("realsr")

# Keys of a network's tensors in files, in order of precedence: BasicSR's averaged and raw weights,
# the generator of this package's checkpoints, then common keys of other code. Without these, the
# first key with an RRDB's tensors is used, else the only key with tensors.
CONTAINERS = (
    "params_ema", "params", "generator", "state_dict", "model", "model_state_dict", "g_ema",
    "netG", "net_g", "net",
)  # fmt: skip
ORIGIN = "realsr_origin"
"""Key of the JSON of an `Origin` in a state dict's `_metadata`, and in `WeightsFile.metadata`."""
MAX_DEPTH = 5  # levels of nested dictionaries around a state dict


@dataclass(frozen=True)
class WeightsFile:
    """The content of a weights file.

    path: the file. values: the file with the numbers: for ncnn its `.bin`, else `path`. state:
    finite tensors by name. metadata: that of a safetensors file, or `ORIGIN` of a PyTorch file; empty for
    other files.
    """

    path: Path
    values: Path
    state: dict[str, Tensor]
    metadata: dict[str, str]


def read_weights(path: Path) -> WeightsFile:
    """Return the weights in a PyTorch, safetensors or ncnn file; its content decides on the format.

    Raises UserError if the file is damaged, of another format, or holds Python objects, no network,
    or values that are not finite.
    """
    kind = identify_weights(path)
    if kind.format == "onnx":
        raise UserError(
            f"{path}: only realsr.upscale and realsr.evaluate read an ONNX file, and without "
            "weights_b: give the weights it was exported from"
        )
    try:
        if is_ncnn(path, kind):
            state = read_ncnn(path)
            check_finite(state)
            return WeightsFile(path, find_pair(path)[1], state, {})
        content, metadata = read_tensors(path)
        metadata = metadata or _find_origin(content)
        state = check_tensors(_find_state(content, path), path.stat().st_size)
        return WeightsFile(path, path, state, metadata)
    except TensorFileError as error:
        raise UserError(f"{path}: {error}") from error


def identify_weights(path: Path) -> FileKind:
    """Return the kind of a file. Raises UserError if it cannot be read."""
    try:
        return identify_file(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def _find_origin(content: object) -> dict[str, str]:
    """Return the `ORIGIN` in the `_metadata` of a state dict, empty if there is none."""
    metadata = getattr(content, "_metadata", None)
    values = metadata.get(ORIGIN) if isinstance(metadata, dict) else None
    text = values.get("json") if isinstance(values, dict) else None
    return {ORIGIN: text} if isinstance(text, str) else {}


def _find_state(content: object, path: Path) -> Mapping[object, object]:
    """Return the state dict in a file's content. Raises UserError if there is none."""
    place = ""
    for _ in range(MAX_DEPTH):
        keys = _find_keys(content)
        if not keys:
            break
        place = _describe(keys[0])
        if keys[1:]:
            place += f" (the file also has {_join(keys[1:4])})"
        content = content[keys[0]]  # type: ignore[index]
    if isinstance(content, Mapping) and not _find_keys(content) and _has_weights(content):
        if place:
            logger.info("%s: using the weights under %s", path, place)
        simple = int | float | str | None
        return {name: value for name, value in content.items() if not isinstance(value, simple)}
    contents = _describe(content)
    if isinstance(content, Mapping):
        contents = f"its keys are {_join(list(content)[:6]) or 'none'}"
    raise UserError(
        f"{path}: no network's weights ({contents}); expected a state dict of tensors by name, or "
        f"one under {', '.join(CONTAINERS)}{_explain_training(content)}"
    )


def _find_keys(content: object) -> list[object]:
    """Return the keys under which a network's tensors are, the best first; empty: not below a key."""
    if not isinstance(content, Mapping):
        return []
    keys: list[object] = [key for key in CONTAINERS if isinstance(content.get(key), Mapping)]
    keys = keys or [key for key in content if _is_rrdb(content[key])]
    if keys or _has_weights(content):
        return keys
    keys = [key for key in content if _has_weights(content[key])]
    return keys if len(keys) == 1 else []


def _is_rrdb(value: object) -> bool:
    return isinstance(value, Mapping) and bool(prefixes(value))


def _has_weights(value: object) -> bool:
    return isinstance(value, Mapping) and any(
        isinstance(part, Tensor) and part.ndim > 0 for part in value.values()
    )


def _explain_training(content: object) -> str:
    """Return a hint on where the weights are, for a file that holds an optimiser's state."""
    keys = [key for key in content if isinstance(key, str)] if isinstance(content, Mapping) else []
    if "optimizers" in keys:
        return "; this is a training state of BasicSR; its weights are in models/net_g_*.pth"
    if {"state", "param_groups"} <= {*keys} or any("optim" in key for key in keys):
        return f"; this is only an optimiser's state. {GENERATOR}"
    return ""


def _join(keys: Sequence[object]) -> str:
    return ", ".join(map(_describe, keys))


def _describe(value: object) -> str:
    """Return a short text unchanged, and the type's name of any other value."""
    if isinstance(value, str) and len(value) <= 100 and value.isprintable():
        return value
    return f"a {type(value).__name__}"


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


def read_checked(path: Path, option: str, network: str) -> object:
    """Return as `read_state` does, with the tensors of a state dict or tuple checked.

    Raises WeightsError as `check_tensors` raises TensorFileError; other content is not checked.
    """
    content, size = read_state(path, option, network), path.stat().st_size
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
    if difference := compare_shapes(layout, shapes, f"not of {network}"):
        looks = describe_tensors(state).partition(". ")[0]
        raise WeightsError(
            f"{source}: these are not the weights of {network}'s feature layers ({difference}). "
            f"{looks and f'{looks}. '}Expected: a state dict of torchvision's {network.lower()}"
        )
    try:
        # The shapes have been checked, so the size needs no limit.
        features = check_tensors(features, sys.maxsize)
    except TensorFileError as error:
        raise WeightsError(f"{source}: {error}") from error
    return {name: value.float() for name, value in features.items()}
