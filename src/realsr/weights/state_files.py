"""Tensors out of files that are not trusted: nothing in them is ever run."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from realsr.core.errors import UserError
from realsr.core.file_kinds import FileKind, identify_file
from realsr.core.tensor_files import (
    GENERATOR,
    TensorFileError,
    check_finite,
    check_tensors,
    read_tensors,
)
from realsr.weights.layouts import prefixes
from realsr.weights.ncnn import find_pair, is_ncnn, read_ncnn

logger = logging.getLogger("realsr")

# The keys under which files hold a network's tensors; the first that exists is used: BasicSR's averaged
# and raw weights, the generator of a checkpoint of ours, and what is usual elsewhere. Without these, any key that has
# an RRDB's tensors will do, else the only one that has tensors.
CONTAINERS = (
    "params_ema", "params", "generator", "state_dict", "model", "model_state_dict", "g_ema", "netG", "net_g", "net",
)  # fmt: skip
DEPTH = 5  # dictionaries inside each other around a state dict


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights, read.

    path: the file. values: the file with the numbers, the `.bin` of ncnn's two. state: tensors by name, all finite.
    metadata: a safetensors file's; empty for other files.
    """

    path: Path
    values: Path
    state: dict[str, Tensor]
    metadata: dict[str, str]


def read_weights(path: Path) -> WeightsFile:
    """Return what a PyTorch, safetensors or ncnn file holds, by its content and not by its name.

    Raises UserError where the file is damaged, of another kind, or holds Python objects, no network, or values that are
    not finite.
    """
    kind = identify_weights(path)
    if kind.format == "onnx":
        raise UserError(
            f"{path}: an ONNX file can be used by realsr.upscale and realsr.evaluate alone: give its weights"
        )
    try:
        if is_ncnn(path, kind):
            state = read_ncnn(path)
            check_finite(state)
            return WeightsFile(path, find_pair(path)[1], state, {})
        content, metadata = read_tensors(path)
        state = check_tensors(_find_state(content, path), path.stat().st_size)
        return WeightsFile(path, path, state, metadata)
    except TensorFileError as error:
        raise UserError(f"{path}: {error}") from error


def identify_weights(path: Path) -> FileKind:
    """Return what a file is. Raises UserError where it cannot be read."""
    try:
        return identify_file(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def _find_state(content: object, path: Path) -> Mapping[object, object]:
    place = ""
    for _ in range(DEPTH):
        if not isinstance(content, Mapping):
            break
        keys = (
            [key for key in CONTAINERS if isinstance(content.get(key), Mapping)]
            or [key for key in content if _is_rrdb(content[key])]
            or (
                [key for key in content if _has_weights(content[key])]
                if not _has_weights(content)
                else []
            )
        )
        if not keys and _has_weights(content):
            if place:
                logger.info("%s: the weights taken are those under %s", path, place)
            return {
                name: value
                for name, value in content.items()
                if not isinstance(value, int | float | str | None)
            }
        if not keys or (
            keys[0] not in CONTAINERS and not _is_rrdb(content[keys[0]]) and len(keys) > 1
        ):
            break
        place = f"{_describe(keys[0])}{f' (also there: {_join(keys[1:4])})' if keys[1:] else ''}"
        content = content[keys[0]]
    holds = (
        f"keys {_join(list(content)[:6]) or 'none'}"
        if isinstance(content, Mapping)
        else _describe(content)
    )
    raise UserError(
        f"{path}: no network's weights in it (it has {holds}); expected a state dict, tensor by name, or one under "
        f"{', '.join(CONTAINERS)}{_explain_training(content)}"
    )


def _is_rrdb(value: object) -> bool:
    return isinstance(value, Mapping) and bool(
        prefixes({name: None for name in value if isinstance(name, str)})
    )


def _has_weights(value: object) -> bool:
    return isinstance(value, Mapping) and any(
        isinstance(part, Tensor) and part.ndim > 0 for part in value.values()
    )


def _explain_training(content: object) -> str:
    """Return where the weights are, for a file that holds an optimiser's state."""
    keys = [key for key in content if isinstance(key, str)] if isinstance(content, Mapping) else []
    if "optimizers" in keys:
        return "; this is BasicSR's state of a training, whose weights are in models/net_g_*.pth"
    if {"state", "param_groups"} <= {*keys} or any("optim" in key for key in keys):
        return f"; this is the state of an optimiser alone. {GENERATOR}"
    return ""


def _join(keys: Sequence[object]) -> str:
    return ", ".join(map(_describe, keys))


def _describe(value: object) -> str:
    """Return a short text as it is, and of another value its type."""
    if isinstance(value, str) and len(value) <= 100 and value.isprintable():
        return value
    return f"a {type(value).__name__}"
