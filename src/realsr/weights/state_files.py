"""Tensors out of files that are not trusted: nothing in them is ever run."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from realsr.core.errors import UserError
from realsr.core.file_kinds import FileKind, identify_file
from realsr.core.tensor_files import (
    TensorFileError,
    check_finite,
    check_tensors,
    read_safetensors_metadata,
    read_tensors,
)
from realsr.core.tensor_kinds import GENERATOR
from realsr.weights.layouts import prefixes
from realsr.weights.ncnn import find_pair, is_ncnn, read_ncnn

logger = logging.getLogger("realsr")

# Under which keys files hold a network's tensors, the first of those that are there is taken: BasicSR's averaged
# and raw weights, the generator of a checkpoint of ours, and what is usual elsewhere. Without these, any key that has
# an RRDB's tensors will do, else the only one that has tensors.
CONTAINERS = (
    "params_ema", "params", "generator", "state_dict", "model", "model_state_dict", "g_ema", "netG", "net_g", "net",
)  # fmt: skip
DEPTH = 5  # dictionaries inside each other around a state dict


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights, read.

    path: the file. values: the file with the numbers, another one (.bin) of ncnn's two. state: tensors by name, all
    finite. metadata: what a safetensors file tells about itself; empty for other files.
    """

    path: Path
    values: Path
    state: dict[str, Tensor]
    metadata: dict[str, str]


def read_weights(path: Path) -> WeightsFile:
    """Return what a PyTorch, safetensors or ncnn file holds. The content tells which it is, not the name.

    Raises UserError where the file is damaged, of another kind, holds more than tensors (which is refused), no
    network, or values that are not finite.
    """
    kind = identify_weights(path)
    if kind.format == "onnx":
        raise UserError(f"{path}: an ONNX file enlarges photos and is evaluated; here give the weights it was made of")
    try:
        if is_ncnn(path, kind):
            state = read_ncnn(path)
            check_finite(state)
            return WeightsFile(path, find_pair(path)[1], state, {})
        file = read_tensors(path)
        state = check_tensors(_find_state(file.content, path), path.stat().st_size)
        return WeightsFile(path, path, state, file.metadata)
    except TensorFileError as error:
        raise UserError(f"{path}: {error}") from error


def read_metadata(path: Path) -> dict[str, str]:
    """Return what a safetensors file tells about itself, without its tensors; of another file, nothing.

    Raises UserError as `read_weights`.
    """
    if identify_weights(path).format != "safetensors":
        return {}
    try:
        return read_safetensors_metadata(path)
    except TensorFileError as error:
        raise UserError(f"{path}: {error}") from error


def identify_weights(path: Path) -> FileKind:
    """Return what a file is. Raises UserError where it cannot be read."""
    try:
        return identify_file(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def _find_state(content: object, path: Path) -> Mapping[object, object]:
    place = list[str]()
    for _ in range(DEPTH):
        if not isinstance(content, Mapping):
            break
        keys = (
            [key for key in CONTAINERS if isinstance(content.get(key), Mapping)]
            or [key for key in content if _is_rrdb(content[key])]
            or ([key for key in content if _has_weights(content[key])] if not _has_weights(content) else [])
        )
        if not keys and _has_weights(content):
            if place:
                logger.info("%s: the weights taken are those under %s", path, place[-1])
            return {name: value for name, value in content.items() if not isinstance(value, int | float | str | None)}
        if not keys or (keys[0] not in CONTAINERS and not _is_rrdb(content[keys[0]]) and len(keys) > 1):
            break
        also = f" (also there: {', '.join(map(_tell_key, keys[1:4]))})" if keys[1:] else ""
        place.append(f"{_tell_key(keys[0])}{also}")
        content = content[keys[0]]
    raise UserError(
        f"{path}: no network's weights in it ({_tell_content(content)}); expected a state dict, tensor by name, or one "
        f"under {', '.join(CONTAINERS)}{_tell_training(content)}"
    )


def _is_rrdb(value: object) -> bool:
    return isinstance(value, Mapping) and bool(prefixes({name: None for name in value if isinstance(name, str)}))


def _has_weights(value: object) -> bool:
    return isinstance(value, Mapping) and any(isinstance(part, Tensor) and part.ndim > 0 for part in value.values())


def _tell_content(content: object) -> str:
    if isinstance(content, Mapping):
        return f"found keys {', '.join(map(_tell_key, list(content)[:6])) or 'none'}"
    kinds = {"a single tensor": Tensor, "a list": list | tuple, "a text": str, "a number": int | float}
    return f"found {next((name for name, kind in kinds.items() if isinstance(content, kind)), 'another value')}"


def _tell_training(content: object) -> str:
    """Where the weights are, of a file that holds an optimiser's state."""
    if not isinstance(content, Mapping):
        return ""
    if "optimizers" in content:
        return "; this is BasicSR's state of a training, whose weights lie in models/net_g_*.pth"
    if content.keys() >= {"state", "param_groups"} or any("optim" in str(key) for key in content):
        return f"; this is the state of an optimiser alone. {GENERATOR}"
    return ""


def _tell_key(key: object) -> str:
    """A key as text for a message; of what is not a short text, its kind."""
    if isinstance(key, str) and len(key) <= 100 and key.isprintable():
        return key
    return f"number {key}" if isinstance(key, int) else "another value"
